"""A transactional outbox for Django and Celery: tell what happened, be heard exactly once.

    class ParcelSent(DomainEvent, key="parcel_id"):     # events.py says
        parcel_id: UUID

    with transaction.atomic():                          # services.py acts
        parcel.save()
        emit(ParcelSent(parcel_id=parcel.id))           # stored with the change, or not at all

    @subscribe("parcels.ParcelSent")                    # handlers.py of any other app hears
    def invoice_parcel(parcel_id: UUID) -> None: ...

Delivery is at least once; inside the database each handler takes effect at most once.
This module is the whole public API, with `outbox.testing` for tests and `outbox.admin` for the
admin of your own models. It imports no models, so it may be imported anywhere.
"""

from __future__ import annotations

from .books import Difference, Look, invariant
from .context import RequestContextMiddleware, acting_as
from .debts import is_owed
from .delayed import cancel_delayed
from .emission import NotInTransaction, emit
from .events import DomainEvent
from .evidence import events_without_row, keys_told_twice, rows_without_event
from .guards import guards_lifted
from .locks import mark_locked, saved_under_lock
from .marks import Sensitive
from .policy import Breaker, Dead, Discard, Pause, Retry, RetryAfter
from .receipt import LeaseLost, PermanentFailure, Receipt
from .subscriptions import subscribe
from .time_limit import TimeLimitExceeded
from .timeline import timeline_of
from .upcasting import upcast

__all__ = [
    "Breaker",
    "Dead",
    "Difference",
    "Discard",
    "DomainEvent",
    "LeaseLost",
    "Look",
    "NotInTransaction",
    "Pause",
    "PermanentFailure",
    "Receipt",
    "RequestContextMiddleware",
    "Retry",
    "RetryAfter",
    "Sensitive",
    "TimeLimitExceeded",
    "acting_as",
    "cancel_delayed",
    "emit",
    "events_without_row",
    "guards_lifted",
    "invariant",
    "is_owed",
    "keys_told_twice",
    "mark_locked",
    "rows_without_event",
    "saved_under_lock",
    "subscribe",
    "timeline_of",
    "upcast",
]
