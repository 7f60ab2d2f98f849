"""Preview of an operation: counts by handler and state, with a few examples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from django.db.models import Count

from outbox import databases
from outbox.formatting import format_time
from outbox.models import Delivery, Event, Operation, Subscription

from . import backfills
from .bulk import ELIGIBLE, chosen
from .handlers import HeldByBackfill, held_by, subscriptions_of
from .selection import Choice

Action = Operation.Action
State = Delivery.State

_EXAMPLES = 5

#: The states of the deliveries that an action on a whole handler concerns.
_STATES = {
    Action.PAUSE: (State.PENDING, State.SENT),
    Action.RESUME: (State.PARKED,),
    Action.CLOSE_BREAKER: (State.PENDING,),
    Action.END: Delivery.OWED,
}


@dataclass(frozen=True, kw_only=True)
class Preview:
    """The rows that an operation would change.

    Attributes:
        counts: tuples of handler, state or event, and number.
        examples: some of the rows, a line each.
    """

    counts: Sequence[tuple[str, str, int]]
    examples: Sequence[str]

    @property
    def total(self) -> int:
        """The number of rows that it would change."""
        return sum(number for _handler, _what, number in self.counts)

    @property
    def lines(self) -> list[str]:
        """The counts in the active language, a line each."""
        labels = {state.value: state.label for state in State}
        return [f"{name}, {labels.get(what, what)}: {number}" for name, what, number in self.counts]


def preview(
    action: str, choice: Choice, *, force: bool = False, using: str | None = None
) -> Preview:
    """Return the rows that an operation would change now. Change nothing.

    Args:
        action: an `Operation.Action`: retry, discard, replay, backfill, pause, resume, end or
            close_breaker. For prune use `prunable`.
        choice: the deliveries, events or handler.
        force: only for resume: see `resume`.
        using: the outbox's database alias.

    Raises:
        UnknownHandler: no subscription has the chosen handler.
        HeldByBackfill: the resumption would be refused.
    """
    using = using or databases.alias()
    if action == Action.RESUME and not force:
        backfill = held_by(choice.handler, using=using)
        if backfill is not None:
            raise HeldByBackfill(choice.handler, backfill)
    if action == Action.BACKFILL:
        return _of_backfill(choice, using=using)
    if action in ELIGIBLE:
        rows = chosen(action, choice, using=using)
    else:
        subscriptions_of(choice.handler, using=using)
        rows = choice.deliveries(using=using).filter(state__in=_STATES[Action(action)])
    found = rows.order_by().values_list("subscription", "state").annotate(number=Count("pk"))
    names = dict(Subscription.objects.using(using).values_list("pk", "handler"))
    counts: dict[tuple[str, str], int] = {}
    for subscription, state, number in found:
        pair = names[subscription], state
        counts[pair] = counts.get(pair, 0) + number
    oldest = rows.select_related("subscription", "event").order_by("pk")[:_EXAMPLES]
    return Preview(
        counts=[(*pair, number) for pair, number in sorted(counts.items())],
        examples=[
            _line(row.event, of=f"delivery {row.pk} of {row.subscription.handler}")
            for row in oldest
        ],
    )


def _of_backfill(choice: Choice, *, using: str) -> Preview:
    lacking = backfills.missing(choice, using=using)
    return Preview(
        counts=[
            (row.handler, row.event, number) for row, some in lacking if (number := some.count())
        ],
        examples=[
            _line(event, of=f"a new delivery of {row.handler}")
            for row, some in lacking
            for event in some.order_by("seq")[:_EXAMPLES]
        ],
    )


def _line(event: Event, *, of: str) -> str:
    return f"{of}: {event.name} {event.key}, {format_time(event.emitted_at)}"
