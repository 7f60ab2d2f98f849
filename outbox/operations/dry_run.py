"""Dry run: run a handler for a delivery as a worker would, report its effects, roll back."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

from django.db import connections, transaction
from django.db.models import F, Max

from outbox import databases
from outbox.deliveries.attempts import describe
from outbox.formatting import one_line
from outbox.models import Delivery, Event
from outbox.privacy.cleaning import cleaner_for
from outbox.subscriptions import find
from outbox.worker import session_sql
from outbox.worker.delivery import deliver

_WRITE = re.compile(r"\s*(?:INSERT\s+INTO|UPDATE|DELETE\s+FROM|MERGE\s+INTO)\s+\"?(\w+)", re.I)
_LONGEST = 400


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
        raise CannotDryRun(f"{name} cannot run in a dry run, because it did not start: {why}.")
    return results[0].error


def _refuse_untriable(name: str) -> None:
    handler = find(name)
    if handler is None:
        raise CannotDryRun(f"{name} cannot run in a dry run: this code has no such handler.")
    if not handler.atomic:
        raise CannotDryRun(
            f"{name} cannot run in a dry run: it is declared with atomic=False, so its effects "
            "outside of its transaction (a call, an e-mail) cannot be rolled back. Read its code "
            "instead."
        )


@contextmanager
def _rolled_back() -> Iterator[None]:
    """Roll back the block's writes to all databases."""
    with ExitStack() as stack:
        for alias in connections:
            stack.enter_context(transaction.atomic(using=alias))
        yield
        for alias in connections:
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
        text = session_sql.text_of(sql, context["connection"]) or ""
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
