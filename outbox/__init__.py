"""A transactional outbox for Django and Celery: store events with their change, deliver them later.

    class ParcelSent(DomainEvent, key="parcel_id"):     # events.py declares
        parcel_id: UUID

    with transaction.atomic():                          # services.py emits
        parcel.save()
        emit(ParcelSent(parcel_id=parcel.id))           # stored with the change, or not at all

    @subscribe("parcels.ParcelSent")                    # handlers.py of any other app subscribes
    def invoice_parcel(parcel_id: UUID) -> None: ...

Delivery is at least once. Inside the database each handler takes effect at most once.

The public API is this module, `outbox.testing` for tests, `outbox.admin` for the admin of your own
models, `outbox.reconciliation` for invariants, `outbox.guards` for rows under locks,
`outbox.emission` for async code, `outbox.databases` for several databases, `outbox.sources` and
`outbox.sinks.base` for other systems, `outbox.settlements` for their reports, `outbox.alerts` for
channels, `outbox.celery` for your Celery app, `outbox.tasks_backend` for Django's tasks,
`outbox.lost_hosts` for settings and `outbox.metrics` for monitors. The page
docs/reference/public-api.md lists all names. This module imports no models, so it may be imported
anywhere.
"""

from __future__ import annotations

from .context import RequestContextMiddleware, acting_as, correlated
from .contracts.upcasting import upcast
from .deliveries.outstanding import is_owed
from .deliveries.time_limit import TimeLimitExceeded
from .emission import NotInTransaction, emit
from .events import DomainEvent, EventRecord
from .monitor.timeline import timeline_of
from .policy import Breaker, Dead, Discard, NotCalled, Pause, Retry, RetryAfter
from .privacy.marks import Sensitive
from .privacy.subjects import declare_subject
from .receipt import BulkDelivery, LeaseLost, PermanentFailure, Receipt, Target
from .relay.delayed import cancel_delayed
from .subscriptions import subscribe

__all__ = [
    "Breaker",
    "BulkDelivery",
    "Dead",
    "Discard",
    "DomainEvent",
    "EventRecord",
    "LeaseLost",
    "NotCalled",
    "NotInTransaction",
    "Pause",
    "PermanentFailure",
    "Receipt",
    "RequestContextMiddleware",
    "Retry",
    "RetryAfter",
    "Sensitive",
    "Target",
    "TimeLimitExceeded",
    "acting_as",
    "cancel_delayed",
    "correlated",
    "declare_subject",
    "emit",
    "is_owed",
    "subscribe",
    "timeline_of",
    "upcast",
]
