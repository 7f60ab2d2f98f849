"""The outbox in Django's admin: read-only lists and pages, and the operations of staff.

Public, for the admin of your own models: `TimelineMixin` shows the events about a row.
`ConditionMixin` also shows a badge (dead, failing, held, overdue, in progress, complete) and a
filter in the list. `overview_first` puts the overview first in the index of your admin site.
`actor` shows the user of "user:7". `StrictAdminMixin` keeps lookups from revealing columns that the
pages do not show::

    class ParcelAdmin(StrictAdminMixin, ConditionMixin, admin.ModelAdmin): ...
"""

from outbox.templatetags.outbox_display import actor

from .alerts import AlertAdmin
from .conditions import ConditionMixin
from .deliveries import DeliveryAdmin
from .events import DelayedEventAdmin, EventAdmin
from .index import overview_first
from .operations import OperationAdmin
from .overview import OverviewAdmin
from .settlements import SettlementAdmin
from .strict_lookups import StrictAdminMixin
from .subscriptions import SubscriptionAdmin
from .timeline import TimelineMixin

__all__ = [
    "AlertAdmin",
    "ConditionMixin",
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
    "overview_first",
]
