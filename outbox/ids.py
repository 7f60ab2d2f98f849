"""Ids of new rows. Migrations refer to `outbox.ids.uuid7`, so its path never changes."""

from __future__ import annotations

from uuid import UUID

from uuid_utils.compat import uuid7 as _uuid7

__all__ = ["uuid7"]


def uuid7() -> UUID:
    """Return a new UUIDv7. Ids of one process ascend in the order of their creation."""
    return _uuid7()
