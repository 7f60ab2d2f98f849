"""What apps declare about a subject that no event names: read within each tenant in turn.

A subject belongs to all tenants, but the functions of `declare_subject` read the rows of one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from django.db import transaction
from django.utils.translation import gettext as _

from outbox import databases, tenants
from outbox.monitor.tenants import all_known

from . import subjects


@dataclass(frozen=True)
class Texts:
    """What declared functions have returned.

    Attributes:
        found: the texts of all tenants that could be read.
        unread: why others could not be read, without personal data, by tenant; "" for code without
            a tenant. One may be gone, while its events are kept.
        not_restored: those of `unread` that the setting's `RESTORE` has refused.
    """

    found: list[str]
    unread: dict[str, str] = field(default_factory=dict)
    not_restored: frozenset[str] = frozenset()


def every_tenant(*, using: str) -> tuple[str | None, ...]:
    """Return None, for code without a tenant, and the tenants of events and delayed events."""
    return (None, *all_known(using=using)) if tenants.is_on() else (None,)


def keys_of(subject: str, *, using: str) -> Texts:
    """Return the keys of events about a subject that do not declare it, of all tenants.

    Raises:
        Exception: no tenant could be read.
        DeclarationFailed: without the setting for tenants, a declared function raised.
    """
    with databases.serving(using):
        return _in_each(subjects.keys_of, subject, using=using)


def values_of(subject: str, *, using: str) -> Texts:
    """Return the texts that identify a subject, of all tenants.

    Raises:
        Exception: no tenant could be read.
        DeclarationFailed: without the setting for tenants, a declared function raised.
    """
    with databases.serving(using):
        return _in_each(subjects.values_of, subject, using=using)


def unread_texts(unread: Mapping[str, str]) -> list[str]:
    """Return a sentence with the next step for each tenant that could not be read."""
    text = _(
        "The rows of the tenant %(tenant)s could not be read: %(cause)s. Events that only these "
        'rows connect with the person are left out. Let OUTBOX["TENANT"]["RESTORE"] restore the '
        "tenant, or choose these events by their keys."
    )
    return [text % {"tenant": one or "-", "cause": cause} for one, cause in unread.items()]


def _in_each(read: Callable[[str], Iterable[str]], subject: str, *, using: str) -> Texts:
    """Call a function for code without a tenant, and for each tenant that has events."""
    if not (tenants.is_on() and subjects.is_declared(subject)):
        return Texts(list(read(subject)))
    found: dict[str, None] = {}
    errors: dict[str, Exception] = {}
    all_tenants = every_tenant(using=using)
    for tenant in all_tenants:
        try:
            with transaction.atomic(using=using), tenants.restored(tenant):
                found.update(dict.fromkeys(read(subject)))
        except Exception as error:
            errors[tenant or ""] = error
    if len(errors) == len(all_tenants):
        raise errors[""]
    refused = (tenant for tenant, error in errors.items() if tenants.is_of_restore(error))
    unread = {tenant: _cause(error) for tenant, error in errors.items()}
    return Texts(list(found), unread, frozenset(refused))


def _cause(error: Exception) -> str:
    if isinstance(error, subjects.DeclarationFailed):  # its text has no personal data
        return str(error)
    return "; ".join([type(error).__name__, *tenants.notes_of(error)]).removesuffix(".")
