"""Read-only admins, for rows that only services write. Superusers cannot change them either."""

from __future__ import annotations

from typing import Any


def never(*_: Any, **__: Any) -> bool:
    """Return False for everybody."""
    return False


class ReadOnly:
    """Mixin to put before `ModelAdmin` or an inline."""

    has_add_permission = has_change_permission = has_delete_permission = never
