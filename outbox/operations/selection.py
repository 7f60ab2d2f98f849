"""The choice of deliveries for an operation: a filter that can be stored as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from django.db.models import OuterRef, Q, QuerySet, Subquery
from django.utils.dateparse import parse_datetime
from django.utils.translation import gettext as _

from outbox import databases
from outbox.models import Attempt, Delivery, Event, Subscription
from outbox.subscriptions import registry

_TIMES = ("since", "until", "as_of")
#: For these an empty value is a filter; None: any.
_MAY_BE_EMPTY = ("ids", "exception", "place", "message")


@dataclass(frozen=True, kw_only=True)
class Choice:
    """A filter of deliveries or events. All given conditions must match; none given means all.

    Attributes:
        ids: ids of deliveries; empty: none. None: any.
        handler: a handler's pinned name.
        event: an event's name, "app.ClassName".
        subscription: of the handler, the subscription to this event or list of events: all its
            deliveries. Also those of this event that other subscriptions of the handler have kept,
            although they no longer select it. `end` sets it.
        key: the event's key.
        states: delivery states.
        since: the event was emitted at this time or later.
        until: the event was emitted before this time.
        exception: the exception's class name in the latest failed attempt; "": none, because its
            worker died or lost the database. None: any.
        overtaken: only dead deliveries that a later event of the key overtook, as in `outbox
            groups`; False: any.
        place: the place that raised, as in `outbox groups`; "": none. None: any.
        message: the whole text of the exception, as in `outbox groups`. None: any.
        as_of: without dead deliveries that died after this time, and without settled ones that were
            settled after it. None: any.
    """

    ids: tuple[int, ...] | None = None
    handler: str = ""
    event: str = ""
    subscription: str = ""
    key: str = ""
    states: tuple[str, ...] = ()
    since: datetime | None = None
    until: datetime | None = None
    exception: str | None = None
    place: str | None = None
    message: str | None = None
    overtaken: bool = False
    as_of: datetime | None = None

    @property
    def is_empty(self) -> bool:
        """Whether it has no condition."""
        return self == Choice()

    def deliveries(self, *, using: str | None = None) -> QuerySet[Delivery]:
        """Return the matching deliveries."""
        using = using or databases.alias()
        rows = Delivery.objects.using(using)
        if self.ids is not None:
            rows = rows.filter(pk__in=self.ids)
        if self.handler:  # by ids, the first column of the indexes
            rows = self._of_subscriptions(rows, self.subscriptions(using=using))
        if self.states:
            rows = rows.filter(state__in=self.states)
        if self.as_of:  # `due_at` of a dead delivery is the time of its death
            rows = rows.exclude(state=Delivery.State.DEAD, due_at__gt=self.as_of)
            rows = rows.exclude(settled_at__gt=self.as_of)
        if self._is_about_events:
            rows = rows.filter(event__in=self.events(using=using).values("seq"))
        return self._of_group(rows, using=using)

    def subscriptions(self, *, using: str) -> list[Subscription]:
        """Return the handler's subscriptions; if none has its name, those of the renamed handler.

        A deploy may rename a handler while an operation runs, or before it is continued.
        """
        rows = Subscription.objects.using(using)
        later = [one.name for one in registry if self.handler in one.formerly]
        return list(rows.filter(handler=self.handler)) or list(rows.filter(handler__in=later))

    def events(self, *, using: str | None = None) -> QuerySet[Event]:
        """Return the matching events, whatever their handlers."""
        using = using or databases.alias()
        rows = Event.objects.using(using)
        if self.event:
            rows = rows.filter(name=self.event)
        if self.key:
            rows = rows.filter(key=self.key)
        if self.since:
            rows = rows.filter(emitted_at__gte=self.since)
        return rows.filter(emitted_at__lt=self.until) if self.until else rows

    def as_json(self) -> dict[str, Any]:
        """Return the given conditions as JSON values."""
        given = {name: value for name, value in asdict(self).items() if value}
        given |= {
            name: value for name in _MAY_BE_EMPTY if (value := getattr(self, name)) is not None
        }
        for name in _TIMES:
            if name in given:
                given[name] = given[name].isoformat()
        return {name: list(v) if isinstance(v, tuple) else v for name, v in given.items()}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Choice:
        """Return the choice that `as_json` stored."""
        read: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in stored.items()
        }
        for name in _TIMES:
            if name in read:
                read[name] = parse_datetime(read[name])
        return cls(**read)

    @property
    def _is_about_events(self) -> bool:
        return bool(self.event or self.key or self.since or self.until)

    def _of_subscriptions(
        self, rows: QuerySet[Delivery], stored: Sequence[Subscription]
    ) -> QuerySet[Delivery]:
        rows = rows.filter(subscription__in=[row.pk for row in stored])
        if not self.subscription:
            return rows
        own = [row.pk for row in stored if row.event == self.subscription]
        others = [row.pk for row in stored if not row.selects(self.subscription)]
        kept = Q(subscription__in=others, event__name=self.subscription)
        return rows.filter(Q(subscription__in=own) | kept)

    def _of_group(self, rows: QuerySet[Delivery], *, using: str) -> QuerySet[Delivery]:
        """Keep the deliveries whose latest failed attempt belongs to the group."""
        latest = Attempt.objects.using(using).filter(delivery=OuterRef("pk")).order_by("-id")
        if self.exception is not None:
            rows = rows.alias(raised=Subquery(latest.values("exception")[:1]))
            rows = rows.filter(raised=self.exception)
        if self.place is not None:
            rows = rows.alias(raised_at=Subquery(latest.values("place")[:1]))
            rows = rows.filter(raised_at=self.place)
        if self.message is not None:
            rows = rows.alias(raised_with=Subquery(latest.values("message")[:1]))
            rows = rows.filter(raised_with=self.message)
        outcome = Subquery(latest.values("outcome")[:1])
        if self.overtaken:
            dead = rows.filter(state=Delivery.State.DEAD)
            return dead.alias(ended=outcome).filter(ended__in=Attempt.EXCUSED)
        if self.exception == "":  # overtaken dead ones are a group of their own
            rows = rows.alias(ended=outcome)
            return rows.exclude(state=Delivery.State.DEAD, ended__in=Attempt.EXCUSED)
        return rows


def described(choice: Mapping[str, Any]) -> str:
    """Return a choice in one line; long lists are cut."""
    parts = []
    for name, value in choice.items():
        values = value if isinstance(value, list) else [value]
        more = " " + _("and %d more") % (len(values) - 3) if len(values) > 3 else ""
        parts.append(f"{name}={','.join(map(str, values[:3]))}{more}")
    return " ".join(parts) or _("all")
