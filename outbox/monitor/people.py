"""Names of the people in operations and pauses: "user:7" becomes the user's name."""

from __future__ import annotations

from collections.abc import Iterable

from django.contrib.auth import get_user_model
from django.core.exceptions import ImproperlyConfigured, ValidationError

_PREFIX = "user:"


def names_of(actors: Iterable[str]) -> dict[str, str]:
    """Return the user's name for each "user:7" whose user exists, by one query at most."""
    pks = {one.removeprefix(_PREFIX) for one in actors if one.startswith(_PREFIX)}
    if not pks:
        return {}
    try:
        users = get_user_model()._default_manager.filter(pk__in=pks)
        return {f"{_PREFIX}{user.pk}": user.get_username() for user in users}
    except (ImproperlyConfigured, ValueError, ValidationError):  # no such model, or another key
        return {}


def name_of(actor: str) -> str:
    """Return the user's name for "user:7", and any other actor unchanged, such as "cli:ann"."""
    return names_of([actor]).get(actor, actor)
