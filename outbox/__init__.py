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

from .context import RequestContextMiddleware, acting_as
from .debts import is_owed
from .emission import NotInTransaction, emit
from .events import DomainEvent
from .guards import guards_lifted
from .locks import mark_locked, saved_under_lock
from .receipt import LeaseLost, PermanentFailure, Receipt
from .subscriptions import subscribe
from .timeline import timeline_of

__all__ = [
    "DomainEvent",
    "LeaseLost",
    "NotInTransaction",
    "PermanentFailure",
    "Receipt",
    "RequestContextMiddleware",
    "acting_as",
    "emit",
    "guards_lifted",
    "is_owed",
    "mark_locked",
    "saved_under_lock",
    "subscribe",
    "timeline_of",
]
