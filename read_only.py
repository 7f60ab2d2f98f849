"""For admins of rows that only services write: they are looked at, by superusers too."""

from __future__ import annotations

from typing import Any


def never(*_: Any, **__: Any) -> bool:
    """Nobody may."""
    return False


class ReadOnly:
    """Put it before `ModelAdmin` or an inline."""

    has_add_permission = has_change_permission = has_delete_permission = never
