"""Tables of events, subscriptions, deliveries, attempts, operations, sources, settlements,
telemetry and alerts.

Most columns never change once written. The others are state of the relay and the workers. Each of
them is written under a lock or by a conditional update.
"""

from __future__ import annotations

from .alerts import Alert, AlertClaim, AlertNotice
from .deliveries import Attempt, Delivery, Subscription
from .events import DedupeKey, DelayedEvent, Event, Horizon
from .operations import Operation
from .received import Received, SourceState
from .settlements import Settlement, SettlementReport
from .telemetry import Counter, Heartbeat, Minute

__all__ = [
    "Alert",
    "AlertClaim",
    "AlertNotice",
    "Attempt",
    "Counter",
    "DedupeKey",
    "DelayedEvent",
    "Delivery",
    "Event",
    "Heartbeat",
    "Horizon",
    "Minute",
    "Operation",
    "Received",
    "Settlement",
    "SettlementReport",
    "SourceState",
    "Subscription",
]
