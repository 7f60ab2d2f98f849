"""Settlement across services: a consumer reports that it has settled an event that a sink sent.

    from outbox.settlements import wait_until_settled

    with transaction.atomic():
        event_id = emit(ParcelSent(parcel_id=parcel.id))
    wait_until_settled(event_id, "billing", seconds=30)

A sink names its `CONSUMERS`, and a source of the other project `SETTLES_AS`. This module imports no
models. See docs/how-to/wait-for-other-systems.md.
"""

from __future__ import annotations

from .status import (
    NotExpected,
    SettlementStatus,
    is_settled,
    settlements_of,
    wait_until_settled,
)

__all__ = [
    "NotExpected",
    "SettlementStatus",
    "is_settled",
    "settlements_of",
    "wait_until_settled",
]
