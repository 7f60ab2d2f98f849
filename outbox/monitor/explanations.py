"""One sentence on the most severe trouble of a timeline: its start, cause and next step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from outbox.formatting import format_time, is_zero, span

from .conditions import OVERDUE_AFTER, TROUBLED, Condition, worst
from .timeline import TimelineDelivery, TimelineEvent


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """The most severe trouble of a timeline.

    Attributes:
        condition: one of `TROUBLED`.
        text: the sentences, without the name of the condition, which a badge shows.
        delivery: the delivery in trouble; None if an event waits for the relay.
        others: number of other deliveries in trouble.
    """

    condition: Condition
    text: str
    delivery: TimelineDelivery | None = None
    others: int = 0

    @property
    def others_text(self) -> str:
        """The number of others in words; "" for none."""
        if not self.others:
            return ""
        text = ngettext(
            "%d other delivery needs attention.", "%d other deliveries need attention.", self.others
        )
        return text % self.others


def condition_of_events(events: Sequence[TimelineEvent], now: datetime) -> Condition | None:
    """Return the most severe condition of the events; None without events."""
    found = [Condition(one.condition) for event in events for one in event.deliveries]
    for event in events:
        is_waiting = event.fanned_out_at is None
        found.append(_of_waiting(event, now) if is_waiting else Condition.COMPLETE)
    return worst(found)


def explain(events: Sequence[TimelineEvent], now: datetime) -> Explanation | None:
    """Explain the most severe trouble; None if no delivery needs attention.

    Of several deliveries in one condition, the one in trouble for the longest time is explained.
    """
    deliveries = [one for event in events for one in event.deliveries]
    troubled = [one for one in deliveries if one.condition in TROUBLED]
    condition = condition_of_events(events, now)
    if condition not in TROUBLED:
        return None
    mine = [one for one in troubled if one.condition == condition]
    if not mine:
        return _of_relay(events, now)
    first = min(mine, key=lambda one: (one.since, one.id))
    return Explanation(
        condition=condition,
        text=_sentence(first, condition, now),
        delivery=first,
        others=len(troubled) - 1,
    )


def _sentence(delivery: TimelineDelivery, condition: Condition, now: datetime) -> str:
    text = _("%(handler)s, since %(since)s (%(span)s): %(why)s")
    # The sentence about a held delivery has the time since which its handler is held.
    if condition == Condition.HELD and not delivery.failures:
        text = _("%(handler)s: %(why)s")
    facts = {
        "handler": delivery.receiver,
        "since": format_time(delivery.since),
        "span": span(now - delivery.since),
        "why": delivery.why or _not_shown(delivery, now),
    }
    return text % facts


def _not_shown(delivery: TimelineDelivery, now: datetime) -> str:
    """Return the next step without the exception, which needs a permission."""
    reason = _("The reason is shown to users who may view deliveries.")
    if delivery.state == "pending" and delivery.due_at > now:
        left = delivery.due_at - now
        text = _("The next attempt is in %s.") % span(left)
        if is_zero(left):
            text = _("The next attempt is now.")
        return f"{text} {reason}"
    return reason


def _of_waiting(event: TimelineEvent, now: datetime) -> Condition:
    is_late = now - event.emitted_at > OVERDUE_AFTER
    return Condition.OVERDUE if is_late else Condition.IN_PROGRESS


def _of_relay(events: Sequence[TimelineEvent], now: datetime) -> Explanation:
    waiting = [event.emitted_at for event in events if event.fanned_out_at is None]
    longest = now - min(waiting) if waiting else timedelta(0)
    text = _("An event waits for the relay for %s. Check that a relay runs.")
    return Explanation(condition=Condition.OVERDUE, text=text % span(longest))
