"""Filters of the lists. None reads the large tables to find its choices."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any

from django.contrib.admin import SimpleListFilter
from django.db.models import Exists, OuterRef, Q, QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from outbox import clock, databases, events
from outbox.models import Delivery, Event, Subscription
from outbox.monitor.tenants import known
from outbox.tenants import is_on

from .event_list import first_since

State = Delivery.State
Choices = Sequence[tuple[str, Any]]


def known_names() -> list[str]:
    """Return the event names that this code declares or that have a subscription."""
    rows = Subscription.objects.only("event")
    subscribed = {row.event for row in rows if not row.has_several_events}
    return sorted({*events.registry, *subscribed})


def _owed(column: str) -> list[QuerySet[Delivery, Any]]:
    """Return a column of owed deliveries, one query per state: each state has its own index."""
    return [Delivery.objects.filter(state=state).values_list(column) for state in Delivery.OWED]


class NameFilter(SimpleListFilter):
    """Events of one name."""

    title = _("event")
    parameter_name = "name"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        """Offer each known name."""
        return [(name, name) for name in known_names()]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Event]) -> QuerySet[Event]:
        """Keep the chosen one."""
        return queryset.filter(name=self.value()) if self.value() else queryset


class TenantFilter(SimpleListFilter):
    """Events of one tenant, or deliveries of these; not offered without tenants."""

    title = _("tenant")
    parameter_name = "tenant"

    def __init__(self, request: HttpRequest, params: Any, model: Any, model_admin: Any) -> None:
        # Without tenants nobody reads the parameter, and the list refuses it.
        super().__init__(request, params if is_on() else {}, model, model_admin)

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        """Offer the first tenants, and the chosen one."""
        found = set(known(using=databases.alias())) if is_on() else set()
        if chosen := self.value():
            found.add(chosen)
        return [(name, name) for name in sorted(found)]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Keep those of the chosen one."""
        if not self.value():
            return queryset
        if queryset.model is Event:
            return queryset.filter(tenant=self.value())
        return queryset.filter(event__in=Event.objects.filter(tenant=self.value()).values("seq"))


class AppFilter(SimpleListFilter):
    """Events of one app."""

    title = _("app")
    parameter_name = "app"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        """Offer each app with events."""
        apps = {name.partition(".")[0] for name in known_names()}
        return [(label, label) for label in sorted(apps)]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Event]) -> QuerySet[Event]:
        """Keep the chosen app's names; LIKE does not use the index of names on every database."""
        if not self.value():
            return queryset
        names = [name for name in known_names() if name.partition(".")[0] == self.value()]
        return queryset.filter(name__in=names)


class EventStateFilter(SimpleListFilter):
    """Events with a delivery in one state."""

    title = _("delivery state")
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        """Offer owed and waiting events first, then each state."""
        return [
            ("owed", _("owed")),
            ("waiting", _("waits for the relay")),
            *((state.value, state.label) for state in State),
        ]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Event]) -> QuerySet[Event]:
        """Keep events by the small indexes of owed deliveries, without a scan of all events."""
        value = self.value()
        if value == "waiting":
            return queryset.filter(fanned_out_at=None)
        if value == "owed":
            waiting = Event.objects.filter(fanned_out_at=None).values_list("seq")
            return queryset.filter(seq__in=waiting.union(*_owed("event"), all=True))
        if value == State.DONE:  # nearly all are done, so a page fills soon
            done = Delivery.objects.filter(event=OuterRef("pk"), state=State.DONE)
            return queryset.filter(Exists(done))
        if value in State.values:
            return queryset.filter(seq__in=Delivery.objects.filter(state=value).values("event"))
        return queryset


class TimeFilter(SimpleListFilter):
    """Events of the last minutes, hours or days."""

    title = _("time")
    parameter_name = "since"
    spans: Mapping[str, timedelta] = {
        "15m": timedelta(minutes=15),
        "1h": timedelta(hours=1),
        "1d": timedelta(days=1),
        "7d": timedelta(days=7),
    }

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        """Offer four spans of time."""
        return [
            ("15m", _("last 15 minutes")),
            ("1h", _("last hour")),
            ("1d", _("last 24 hours")),
            ("7d", _("last 7 days")),
        ]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Event]) -> QuerySet[Event]:
        """Keep events emitted since then; `seq` narrows them, as `emitted_at` has no index."""
        span = self.spans.get(self.value() or "")
        if span is None:
            return queryset
        since = clock.now() - span
        return queryset.filter(seq__gte=first_since(since), emitted_at__gte=since)


class DeliveryStateFilter(SimpleListFilter):
    """Deliveries in one state, or all that are owed."""

    title = _("state")
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        """Offer all owed deliveries, and each state."""
        return [("owed", _("owed")), *((state.value, state.label) for state in State)]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Delivery]) -> QuerySet[Delivery]:
        """Keep these states."""
        value = self.value()
        if value == "owed":
            first, *others = _owed("pk")
            return queryset.filter(pk__in=first.union(*others, all=True))
        return queryset.filter(state=value) if value in State.values else queryset


class HandlerFilter(SimpleListFilter):
    """Deliveries to one handler, of all its events."""

    title = _("handler")
    parameter_name = "handler"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        """Offer each subscribed handler."""
        names = Subscription.objects.values_list("handler", flat=True).distinct()
        return [(name, name) for name in names.order_by("handler")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Delivery]) -> QuerySet[Delivery]:
        """Keep its deliveries, by subscription ids, the first column of the indexes.

        The condition on event names is redundant. But the database knows which names are rare, and
        then starts from their events instead of a scan.
        """
        if not self.value():
            return queryset
        rows = list(Subscription.objects.filter(handler=self.value()))
        queryset = queryset.filter(subscription__in=[row.pk for row in rows])
        if any(row.has_several_events for row in rows):
            return queryset
        return queryset.filter(event__name__in={row.event for row in rows})


class DueFilter(SimpleListFilter):
    """Deliveries by their due time."""

    title = _("due")
    parameter_name = "due"
    conditions: Mapping[str, Callable[[], Q]] = {
        "now": lambda: Q(state=State.PENDING, due_at__lte=clock.now()),
        "later": lambda: Q(state=State.PENDING, due_at__gt=clock.now()),
        "lapsed": lambda: Q(state=State.SENT, due_at__lte=clock.now()),
    }

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        """Offer due deliveries, those in backoff, and those with an expired lease."""
        return [
            ("now", _("now")),
            ("later", _("later (backoff)")),
            ("lapsed", _("sent, lease expired")),
        ]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Delivery]) -> QuerySet[Delivery]:
        """Keep the chosen deliveries."""
        condition = self.conditions.get(self.value() or "")
        return queryset.filter(condition()) if condition else queryset
