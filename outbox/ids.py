"""Ids of new rows. Migrations refer to `outbox.ids.uuid7`, so its path never changes."""

from __future__ import annotations

import sys
from uuid import UUID

if sys.version_info >= (3, 14):
    from uuid import uuid7 as _uuid7
else:
    from uuid_utils.compat import uuid7 as _uuid7

__all__ = ["uuid7"]


def uuid7() -> UUID:
    """Return a new UUIDv7.

    Ids of one process ascend in the order of their creation. From Python 3.14 on, ids that several
    threads create in the same millisecond may not.
    """
    return _uuid7()
