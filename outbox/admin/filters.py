"""The filters of the lists. None reads the big tables to know its choices."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any

from django.contrib.admin import SimpleListFilter
from django.db.models import Exists, OuterRef, Q, QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from outbox import clock, events
from outbox.models import Delivery, Event, Subscription

from .seek import first_since

State = Delivery.State
Choices = Sequence[tuple[str, Any]]


def known_names() -> list[str]:
    """Return the event names that this code emits or that somebody hears."""
    heard = Subscription.objects.values_list("event", flat=True).distinct()
    return sorted({*events.registry, *heard})


def _owed(column: str) -> list[QuerySet[Delivery, Any]]:
    """Return a column of what is owed, state by state: each has an index of its own."""
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


class AppFilter(SimpleListFilter):
    """Events told by one app."""

    title = _("app")
    parameter_name = "app"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        """Offer each app that tells something."""
        apps = {name.partition(".")[0] for name in known_names()}
        return [(label, label) for label in sorted(apps)]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Event]) -> QuerySet[Event]:
        """Keep the chosen app's names; a LIKE would not use the index of names everywhere."""
        if not self.value():
            return queryset
        names = [name for name in known_names() if name.partition(".")[0] == self.value()]
        return queryset.filter(name__in=names)


class EventStateFilter(SimpleListFilter):
    """Events with a delivery in one state."""

    title = _("state of a delivery")
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        """Offer what is owed first, as that is what people look for."""
        return [
            ("owed", _("anything owed")),
            ("waiting", _("waits for the relay")),
            *((state.value, state.label) for state in State),
        ]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Event]) -> QuerySet[Event]:
        """Keep events by the small indexes of what is owed, not by looking at each event."""
        value = self.value()
        if value == "waiting":
            return queryset.filter(fanned_out_at=None)
        if value == "owed":
            waiting = Event.objects.filter(fanned_out_at=None).values_list("seq")
            return queryset.filter(seq__in=waiting.union(*_owed("event"), all=True))
        if value == State.DONE:  # nearly all are, so the newest are soon found
            done = Delivery.objects.filter(event=OuterRef("pk"), state=State.DONE)
            return queryset.filter(Exists(done))
        if value in State.values:
            return queryset.filter(seq__in=Delivery.objects.filter(state=value).values("event"))
        return queryset


class TimeFilter(SimpleListFilter):
    """Events of the last while."""

    title = _("time")
    parameter_name = "since"
    spans: Mapping[str, timedelta] = {
        "15m": timedelta(minutes=15),
        "1h": timedelta(hours=1),
        "1d": timedelta(days=1),
        "7d": timedelta(days=7),
    }

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        """Offer the spans that people on call ask for."""
        return [
            ("15m", _("last 15 minutes")),
            ("1h", _("last hour")),
            ("1d", _("last 24 hours")),
            ("7d", _("last 7 days")),
        ]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Event]) -> QuerySet[Event]:
        """Keep what was emitted since then; its times alone have no index."""
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
        """Offer all that is owed, and each state."""
        return [("owed", _("owed")), *((state.value, state.label) for state in State)]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Delivery]) -> QuerySet[Delivery]:
        """Keep these states."""
        value = self.value()
        if value == "owed":
            first, *others = _owed("pk")
            return queryset.filter(pk__in=first.union(*others, all=True))
        return queryset.filter(state=value) if value in State.values else queryset


class HandlerFilter(SimpleListFilter):
    """Deliveries owed to one handler, whatever it hears."""

    title = _("handler")
    parameter_name = "handler"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        """Offer each subscribed handler."""
        names = Subscription.objects.values_list("handler", flat=True).distinct()
        return [(name, name) for name in names.order_by("handler")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Delivery]) -> QuerySet[Delivery]:
        """Keep its deliveries, by the ids that the indexes begin with.

        That their events have the names that it hears is no news; but the database knows which
        names are seldom, and then finds them by the events instead of looking through all.
        """
        if not self.value():
            return queryset
        rows = Subscription.objects.filter(handler=self.value()).values_list("pk", "event")
        ids, names = {pk for pk, _name in rows}, {name for _pk, name in rows}
        return queryset.filter(subscription__in=ids, event__name__in=names)


class DueFilter(SimpleListFilter):
    """Deliveries by when something is to happen to them."""

    title = _("due")
    parameter_name = "due"
    conditions: Mapping[str, Callable[[], Q]] = {
        "now": lambda: Q(state=State.PENDING, due_at__lte=clock.now()),
        "later": lambda: Q(state=State.PENDING, due_at__gt=clock.now()),
        "lapsed": lambda: Q(state=State.SENT, due_at__lte=clock.now()),
    }

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        """Offer what waits for the relay, for its backoff, and what a worker may have lost."""
        return [
            ("now", _("now")),
            ("later", _("later, after a backoff")),
            ("lapsed", _("sent, and its lease has passed")),
        ]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Delivery]) -> QuerySet[Delivery]:
        """Keep these."""
        condition = self.conditions.get(self.value() or "")
        return queryset.filter(condition()) if condition else queryset
