"""What happened, who hears it, what is still owed, what is told later, what operators did.

Most columns never change once written. Those that do are the relay's and the workers' bookkeeping,
and each is written under a lock or by a conditional update.
"""

from __future__ import annotations

from .deliveries import Attempt, Delivery, Subscription
from .events import DelayedEvent, Event, Horizon
from .operations import Operation
from .telemetry import Counter, Heartbeat, Minute

__all__ = [
    "Attempt",
    "Counter",
    "DelayedEvent",
    "Delivery",
    "Event",
    "Heartbeat",
    "Horizon",
    "Minute",
    "Operation",
    "Subscription",
]
