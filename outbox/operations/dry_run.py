"""Dry runs: count the rows that an operation would change, or run a handler and roll it back."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

from django.db import connections, transaction
from django.db.models import Count, F, Max
from django.utils.translation import gettext as _

from outbox import databases
from outbox.deliveries.attempts import describe
from outbox.deliveries.beside import text_of
from outbox.formatting import format_time, listing, one_line
from outbox.models import Delivery, Event, Operation, Subscription
from outbox.privacy.cleaning import cleaner_for
from outbox.subscriptions import find
from outbox.worker.delivery import deliver

from . import backfills
from .bulk import ELIGIBLE, chosen
from .handler_rows import subscriptions_to_end
from .handlers import HeldByBackfill, held_by, refuse_ended
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

_WRITE = re.compile(r"\s*(?:INSERT\s+INTO|UPDATE|DELETE\s+FROM|MERGE\s+INTO)\s+\"?(\w+)", re.I)
_LONGEST = 400


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
        return [
            f"{listing([name, str(labels.get(what, what))])}: {number}"
            for name, what, number in self.counts
        ]


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
        UnknownSubscription: `end` would raise it.
        HandlerEnded: the pause would be refused.
        HeldByBackfill: the resumption would be refused.
    """
    using = using or databases.alias()
    if action == Action.PAUSE:
        refuse_ended(choice.handler, using=using)
    if action == Action.RESUME and not force:
        backfill = held_by(choice.handler, using=using)
        if backfill is not None:
            raise HeldByBackfill(choice.handler, backfill)
    if action == Action.BACKFILL:
        return _of_backfill(choice, using=using)
    if action in ELIGIBLE:
        rows = chosen(action, choice, using=using)
    else:
        subscriptions_to_end(choice.handler, choice.subscription, using=using)
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
            _line(
                row.event,
                of=_("delivery %(pk)s of %(handler)s")
                % {"pk": row.pk, "handler": row.subscription.handler},
            )
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
            _line(event, of=_("a new delivery of %(handler)s") % {"handler": row.handler})
            for row, some in lacking
            for event in some.order_by("seq")[:_EXAMPLES]
        ],
    )


def _line(event: Event, *, of: str) -> str:
    return f"{of}: {event.name} {event.key}, {format_time(event.emitted_at)}"


class CannotDryRun(ValueError):
    """This handler cannot run in a dry run."""


@dataclass(frozen=True, kw_only=True)
class DryRun:
    """The effects of a handler that was rolled back.

    Attributes:
        delivery_id: the delivery that it ran for.
        handler: its pinned name.
        writes: the statements that write, with their values, in order; without the outbox's own.
        events: the emitted events, as "app.ClassName key".
        error: a summary of the raised exception, or "".

    Personal data is masked, as in a failed attempt.
    """

    delivery_id: int
    handler: str
    writes: Sequence[str]
    events: Sequence[str]
    error: str = ""


def dry_run(delivery_id: int, *, using: str | None = None) -> DryRun:
    """Run an atomic handler for a delivery, whatever its state, in a transaction that rolls back.

    It does the same as a worker: decode the event, call the handler, write the receipt. Writes to
    other databases are rolled back as well. Callbacks of `on_commit` do not run. Locks are held
    until the handler returns.

    Args:
        delivery_id: the id of the delivery.
        using: the outbox's database alias.

    Raises:
        CannotDryRun: this code has no such handler, or the handler acts outside of its transaction.
            Or it would not start: it is paused, or only a later release can read the event.
        Delivery.DoesNotExist: there is no such delivery.
    """
    using = using or databases.alias()
    row = Delivery.objects.using(using).select_related("subscription", "event").get(pk=delivery_id)
    name = row.subscription.handler
    _refuse_untriable(name)
    writes: list[str] = []
    with _rolled_back(), _quiet(), ExitStack() as stack:
        for alias in connections:
            stack.enter_context(connections[alias].execute_wrapper(_Collector(writes)))
        before = Event.objects.using(using).aggregate(last=Max("seq"))["last"] or 0
        error = _run(row, name, using=using)
        emitted = Event.objects.using(using).filter(seq__gt=before, causation_id=row.event.id)
        emitted = emitted.filter(emitted_by=name).order_by("seq")
        events = [f"{event.name} {event.key}" for event in emitted]
    cleaner = cleaner_for(row.event, using=using)
    return DryRun(
        delivery_id=row.pk,
        handler=name,
        writes=[_cut(cleaner.clean(text, longest=_LONGEST + 1)) for text in writes],
        events=events,
        error=describe(error, row.event, using=using).summary if error else "",
    )


def _run(row: Delivery, name: str, *, using: str) -> BaseException | None:
    rows = Delivery.objects.using(using).filter(pk=row.pk)
    rows.update(state=Delivery.State.SENT, token=F("token") + 1)
    results = deliver(
        handler_name=name,
        pairs=[(row.pk, row.token + 1)],
        worker="dry-run",
        is_counted=False,
        using=using,
    )
    if not results:
        why = one_line(rows.values_list("note", flat=True).get())
        raise CannotDryRun(
            _("%(name)s cannot run in a dry run, because it did not start: %(why)s.")
            % {"name": name, "why": why}
        )
    return results[0].error


def _refuse_untriable(name: str) -> None:
    handler = find(name)
    if handler is None:
        raise CannotDryRun(
            _("%(name)s cannot run in a dry run: this code has no such handler.") % {"name": name}
        )
    if not handler.atomic:
        raise CannotDryRun(
            _(
                "%(name)s cannot run in a dry run: it is declared with "
                "atomic=False, so its effects outside of its transaction (a call, "
                "an e-mail) cannot be rolled back. Read its code instead."
            )
            % {"name": name}
        )


@contextmanager
def _rolled_back() -> Iterator[None]:
    """Roll back the block's writes to all databases."""
    # Not to replicas, which nobody writes: one that is down prevents no dry run.
    replicas = {databases.replica_of(using) for using in databases.aliases()}
    writable = [alias for alias in connections if alias not in replicas]
    with ExitStack() as stack:
        for alias in writable:
            stack.enter_context(transaction.atomic(using=alias))
        yield
        for alias in writable:
            transaction.set_rollback(True, using=alias)


@contextmanager
def _quiet() -> Iterator[None]:
    """Disable the log of deliveries: a dry run settles none."""
    logger = logging.getLogger("outbox.delivery")
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before


@dataclass
class _Collector:
    """Collect each statement that writes to a table other than the outbox's."""

    writes: list[str] = field(repr=False)

    def __call__(
        self, execute: Callable[..., Any], sql: object, params: Any, many: bool, context: Any
    ) -> Any:
        result = execute(sql, params, many, context)
        text = text_of(sql, context["connection"]) or ""
        found = _WRITE.match(text)
        if found and not found[1].startswith("outbox_"):
            for values in params if many else [params]:
                self.writes.append(_readable(text, values))
        return result


def _readable(sql: str, params: Any) -> str:
    """Return a statement with its values in place of the placeholders, for display only."""
    values = iter(params or ())
    return re.sub(r"%s", lambda _: _shown(next(values, "?")), " ".join(sql.split()))


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} ..."


def _shown(value: object) -> str:
    return (
        repr(value) if isinstance(value, (int, float, str, bool, type(None))) else repr(str(value))
    )
