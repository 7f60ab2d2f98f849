"""The outbox in Django's admin: read-only lists and pages, and what a person may do.

Public: `TimelineMixin`, for the admin of your own models, whose rows events are about::

    class ParcelAdmin(TimelineMixin, admin.ModelAdmin): ...
"""

from .delayed import DelayedEventAdmin
from .deliveries import DeliveryAdmin
from .events import EventAdmin
from .operations import OperationAdmin
from .overview import OverviewAdmin
from .subscriptions import SubscriptionAdmin
from .timeline import TimelineMixin

__all__ = [
    "DelayedEventAdmin",
    "DeliveryAdmin",
    "EventAdmin",
    "OperationAdmin",
    "OverviewAdmin",
    "SubscriptionAdmin",
    "TimelineMixin",
]
