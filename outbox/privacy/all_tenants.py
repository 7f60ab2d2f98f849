"""What apps declare about a subject that no event names: read within each tenant in turn.

A subject belongs to all tenants, but the functions of `declare_subject` read the rows of one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from django.db import transaction

from outbox import tenants
from outbox.monitor.tenants import all_known

from . import subjects


def keys_of(subject: str, *, using: str) -> list[str]:
    """Return the keys of events about a subject that do not declare it, of all tenants.

    Raises:
        DeclarationFailed: a declared function raised.
    """
    return _in_each(subjects.keys_of, subject, using=using)


def values_of(subject: str, *, using: str) -> list[str]:
    """Return the texts that identify a subject, of all tenants.

    Raises:
        DeclarationFailed: a declared function raised.
    """
    return _in_each(subjects.values_of, subject, using=using)


def _in_each(read: Callable[[str], Iterable[str]], subject: str, *, using: str) -> list[str]:
    """Call a function for code without a tenant, and for each tenant that has events."""
    if not (tenants.is_on() and subjects.is_declared(subject)):
        return list(read(subject))
    found: dict[str, None] = {}
    for tenant in (None, *all_known(using=using)):
        with transaction.atomic(using=using), tenants.restored(tenant):
            found.update(dict.fromkeys(read(subject)))
    return list(found)
