"""The subscriptions of a handler by its pinned name, and the errors if there are none."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

from django.db.models import QuerySet
from django.utils.translation import gettext as _

from outbox import databases
from outbox.formatting import migrate_command
from outbox.models import Delivery, Operation, Subscription
from outbox.subscriptions import find

from .progress import unfinished_of
from .selection import Choice


def subscriptions_of(handler: str, *, using: str | None = None) -> QuerySet[Subscription]:
    """Return a handler's subscriptions by its pinned name; raise `UnknownHandler` if none."""
    using = using or databases.alias()
    every = Subscription.objects.using(using)
    rows = every.filter(handler=handler)
    if not rows.exists():
        known = set(every.values_list("handler", flat=True))
        raise UnknownHandler(handler, known=known, using=using)
    return rows


def subscriptions_to_end(handler: str, event: str, *, using: str) -> QuerySet[Subscription]:
    """Return the subscriptions that `end` ends: the handler's to an event, or all if it is "".

    Raises:
        UnknownHandler: no subscription has this handler.
        UnknownSubscription: see `end`.
    """
    rows = subscriptions_of(handler, using=using)
    if not event:
        return rows
    found = rows.filter(event=event)
    # Or deliveries of an event that was removed from a list, or a killed operation about them.
    left = Choice(handler=handler, subscription=event).deliveries(using=using)
    is_known = (
        found.exists()
        or left.filter(state__in=Delivery.OWED).exists()
        or unfinished_of(Operation.Action.END, end_choice(handler, event), using=using)
    )
    if not is_known:
        raise UnknownSubscription(handler, event, rows)
    return found


def end_choice(handler: str, event: str = "") -> dict[str, str]:
    """Return the choice that `end` stores with its operation."""
    return {"handler": handler} | ({"event": event} if event else {})


def without_removed(rows: QuerySet[Subscription]) -> QuerySet[Subscription]:
    """Leave out a handler's ended subscriptions that the code no longer has.

    If the code has removed the whole handler, none is left out.
    """
    present = rows.exclude(active=False, known=False)
    return present if present.exists() else rows


class UnknownHandler(LookupError):
    """No subscription has a handler of this name."""

    def __init__(self, handler: str, *, known: Iterable[str], using: str) -> None:
        close = get_close_matches(handler, sorted(known), n=3)
        hint = (
            (" " + _("Did you mean %(names)s?") % {"names": (" " + _("or") + " ").join(close)})
            if close
            else ""
        )
        if find(handler):
            text = _("The code has it, but its subscriptions are not stored: run %(migrate)s.")
            hint = " " + text % {"migrate": migrate_command(using)}
        super().__init__(
            _("No subscription has the handler %(handler)s.%(hint)s")
            % {"handler": handler, "hint": hint}
        )


class UnknownSubscription(LookupError):
    """The handler has no subscription of its own to this event."""

    def __init__(self, handler: str, event: str, rows: QuerySet[Subscription]) -> None:
        facts = {"handler": handler, "event": event}
        text = _("%(handler)s has no subscription to %(event)s. It has: %(selectors)s.")
        facts["selectors"] = "; ".join(sorted(row.event for row in rows))
        if several := next((row for row in rows if row.selects(event)), None):
            facts["selectors"] = several.event
            text = _(
                "%(handler)s has one subscription for several events (%(selectors)s), and still "
                "subscribes to %(event)s. First remove this event from its `@subscribe`, deploy, "
                "and run migrate."
            )
        super().__init__(text % facts)
