"""Ids of new rows. Migrations refer to `outbox.ids.uuid7`, so its path never changes."""

from __future__ import annotations

import sys
from datetime import datetime
from uuid import UUID

if sys.version_info >= (3, 14):
    from uuid import uuid7 as _uuid7
else:
    from uuid_utils.compat import uuid7 as _uuid7

__all__ = ["first_id_at", "uuid7"]


def uuid7() -> UUID:
    """Return a new UUIDv7.

    Ids of one process ascend in the order of their creation. From Python 3.14 on, ids that several
    threads create in the same millisecond may not.
    """
    return _uuid7()


def first_id_at(moment: datetime) -> UUID:
    """Return the lower bound of the UUIDv7s of a time: such an id begins with its milliseconds."""
    milliseconds = max(0, int(moment.timestamp() * 1000))  # no id has a time before 1970
    return UUID(int=milliseconds << 80)
