"""The outbox in Django's admin: read-only lists and pages, and the operations of staff.

Public, for the admin of your own models: `TimelineMixin` shows the events about a row.
`actor` shows the user of "user:7". `StrictAdminMixin` keeps lookups from revealing columns that the
pages do not show::

    class ParcelAdmin(StrictAdminMixin, TimelineMixin, admin.ModelAdmin): ...
"""

from outbox.templatetags.outbox_display import actor

from .alerts import AlertAdmin
from .deliveries import DeliveryAdmin
from .events import DelayedEventAdmin, EventAdmin
from .operations import OperationAdmin
from .overview import OverviewAdmin
from .settlements import SettlementAdmin
from .strict_lookups import StrictAdminMixin
from .subscriptions import SubscriptionAdmin
from .timeline import TimelineMixin

__all__ = [
    "AlertAdmin",
    "DelayedEventAdmin",
    "DeliveryAdmin",
    "EventAdmin",
    "OperationAdmin",
    "OverviewAdmin",
    "SettlementAdmin",
    "StrictAdminMixin",
    "SubscriptionAdmin",
    "TimelineMixin",
    "actor",
]
