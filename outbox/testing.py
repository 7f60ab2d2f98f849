"""The test kit for your apps: store events, deliver them, and inspect the emitted events.

pytest: the fixture `outbox`. An installed distribution registers it; with a copy of the folder, add
`outbox.testing` to `pytest_plugins`.
unittest: `class MyTest(OutboxTestMixin, TestCase)` and `self.outbox`. It needs no pytest.
Both work within the transaction of an ordinary test. They run the real relay and the real delivery,
without a broker::

    def test_reserves_all_or_nothing(outbox):
        outbox.given("orders.OrderPlaced", order_id=ID, lines=[...], total=TOTAL)
        outbox.deliver_all(only="inventory", twice=True)
        assert outbox.emitted("inventory.StockReserved").order_id == ID

`SinkContract` has the tests that every sink of your project passes. It needs pytest.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from random import SystemRandom
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.db import transaction
from django.db.models import F
from pydantic_core import to_jsonable_python

from . import clock, databases, emission, events, subscriptions
from .context import Cause, caused_by
from .contracts import upcasting
from .counting.buffer import without_threads
from .deliveries import failpoints, settlement
from .deliveries.sync import sync_subscriptions
from .guards import hooks as guard_hooks
from .ids import uuid7
from .relay.passes import relay_pass
from .transports.base import Message
from .worker.delivery import deliver
from .worker.outcome import Result

if TYPE_CHECKING:
    from .models import DelayedEvent, Event
    from .sinks.contract import SinkContract, StoredMessage

__all__ = ["Outbox", "OutboxTestMixin", "SinkContract", "StoredMessage"]

#: Loaded with this module where it is listed as a plugin. pytest loads a plugin once.
pytest_plugins = ["outbox.pytest_plugin"]

#: Imported when they are used, since they need pytest.
_OF_PYTEST = {"SinkContract", "StoredMessage"}

#: More rounds of events that cause events count as a loop.
MAX_ROUNDS = 100

WORKER = "test"


def __getattr__(name: str) -> Any:
    if name not in _OF_PYTEST:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import pytest

    pytest.register_assert_rewrite("outbox.sinks.contract")  # has to precede the import
    from .sinks import contract

    return getattr(contract, name)


class Outbox:
    """The outbox in a test. The fixture `outbox` or `OutboxTestMixin` creates it."""

    def __init__(self, *, using: str | None = None) -> None:
        using = using or databases.alias()
        self._using = using
        self._given: set[UUID] = set()
        guard_hooks.start(by_default=True)
        sync_subscriptions(using=using)

    def given(
        self, name: str, /, *, key: str = "", stored_version: int | None = None, **fields: Any
    ) -> Event:
        """Store an event as if its producer had emitted it; the producer need not be installed.

        Args:
            name: "app.ClassName". If that class is loaded, the fields must fit it.
            key: the event's key, if the class is not loaded. Default: the first field whose name
                ends in "_id".
            stored_version: store the fields unchanged, as an older release with this version of
                the event did. Your upcasters then read them.
            fields: the event's fields, of any type that pydantic can convert to JSON.

        Returns:
            The stored row (`outbox.models.Event`).
        """
        known = events.find(name)
        with transaction.atomic(using=self._using), caused_by(Cause(actor="test")):
            if known is not None and stored_version is None:
                event_id = emission.store(known(**fields), using=self._using)
                row = self._row(event_id)
            else:
                key = key or (str(fields.get(known.event_key, "")) if known else "")
                row = self._store_as_is(
                    name,
                    key=key or _guess_key(name, fields),
                    version=stored_version or 1,
                    fields=fields,
                )
        self._given.add(row.id)
        return row

    def deliver_all(
        self, *, only: str = "", twice: bool = False, raise_errors: bool = True
    ) -> list[Result]:
        """Fan out and deliver due events, and the events that these cause, until none is left.

        Args:
            only: an app label or a handler's pinned name. Deliveries of others stay pending.
            twice: kill each run just before its receipt commits, and repeat the run. Then send
                its message once more, as after a killed worker. So your assertions find a handler
                that acts twice outside its transaction.
            raise_errors: re-raise a handler's exception. False: the failure is recorded, as in
                production, and due again after its longest backoff. So a short random wait causes
                no retry within this call.

        Returns:
            The result of each delivery, in order.

        Raises:
            AssertionError: `only` names no handler, or events cause each other without end. The
                message names the loop.
        """
        with _longest_waits():
            return self._deliver_all(self._handlers(only), twice=twice, raise_errors=raise_errors)

    def _deliver_all(
        self, handlers: set[str] | None, *, twice: bool, raise_errors: bool
    ) -> list[Result]:
        results: list[Result] = []
        for _ in range(MAX_ROUNDS):
            messages: list[Message] = []
            plan = relay_pass(publish=messages.append, using=self._using, only=handlers)
            if not plan.found_something:
                return results
            for message in messages:
                results += self._deliver(message, twice=twice)
                if raise_errors:
                    _raise_first(results)
        raise AssertionError(f"Events cause each other without end: {self._loop()}")

    def let_pass(self, time: timedelta) -> None:
        """Simulate the passing of time: delayed events, retries, probes, settlements become due."""
        from .models import DelayedEvent, Delivery, Settlement, SettlementReport, Subscription

        DelayedEvent.objects.using(self._using).update(due_at=F("due_at") - time)
        waiting = Delivery.objects.using(self._using).filter(state__in=Delivery.OWED)
        waiting.update(due_at=F("due_at") - time)
        held = Subscription.objects.using(self._using).exclude(breaker_probe_at=None)
        held.update(breaker_probe_at=F("breaker_probe_at") - time)
        settlements = Settlement.objects.using(self._using).filter(state=Settlement.State.OPEN)
        settlements.update(due_at=F("due_at") - time)
        reports = SettlementReport.objects.using(self._using).filter(reported_at=None)
        reports.update(check_at=F("check_at") - time)

    def emitted(self, name: str) -> Any:
        """Return the only emitted event with this name, as an object with its fields.

        Raises `AssertionError` if there is none or several. The message lists the emitted events.
        """
        found = self.all_emitted(name)
        if len(found) != 1:
            others = ", ".join(row.name for row in self._rows()) or "nothing"
            raise AssertionError(
                f"Expected one {name}, found {len(found)}. Emitted in this order: {others}."
            )
        return found[0]

    def all_emitted(self, name: str = "") -> list[Any]:
        """Return all emitted events in order, of one name or of all, without the given ones."""
        return [_as_object(row) for row in self._rows() if not name or row.name == name]

    def all_delayed(self, name: str = "") -> list[Any]:
        """Return the waiting delayed events, of one name or of all, in the order of `due_at`."""
        from .models import DelayedEvent

        rows = DelayedEvent.objects.using(self._using).order_by("due_at", "id")
        return [_as_object(row) for row in rows if not name or row.name == name]

    def _rows(self) -> list[Event]:
        from .models import Event

        return [
            row
            for row in Event.objects.using(self._using).order_by("seq")
            if row.id not in self._given
        ]

    def _row(self, event_id: UUID) -> Event:
        from .models import Event

        return Event.objects.using(self._using).get(id=event_id)

    def _store_as_is(self, name: str, *, key: str, version: int, fields: dict[str, Any]) -> Event:
        from .models import Event

        return Event.objects.using(self._using).create(
            name=name,
            version=version,
            key=key,
            payload=to_jsonable_python(fields),
            emitted_at=clock.now(using=self._using),
            correlation_id=uuid7(),
            actor="test",
        )

    def _handlers(self, only: str) -> set[str] | None:
        if not only:
            return None
        found = {
            handler.name
            for handler in subscriptions.registry
            if only in (handler.name, handler.app_label, handler.name.partition(".")[0])
        }
        assert found, (
            f"deliver_all(only={only!r}) matches no handler and no app with handlers. Handlers: "
            f"{', '.join(sorted(handler.name for handler in subscriptions.registry))}."
        )
        return found

    def _deliver(self, message: Message, *, twice: bool) -> list[Result]:
        if not twice:
            return self._run(message.handler, message.pairs)
        results = []
        for pair in message.pairs:
            self._die(message, pair)
            again = self._send_again(pair)
            results += self._run(message.handler, [again])
            repeated = self._run(message.handler, [again])
            assert not repeated, "A repeated message started a handler."
        return results

    def _die(self, message: Message, pair: tuple[int, int]) -> None:
        with suppress(_Died), failpoints.armed(failpoints.BEFORE_RECEIPT, _die):
            self._run(message.handler, [pair])

    def _run(self, handler: str, pairs: Sequence[tuple[int, int]]) -> list[Result]:
        return deliver(handler_name=handler, pairs=pairs, worker=WORKER, using=self._using)

    def _send_again(self, pair: tuple[int, int]) -> tuple[int, int]:
        """Send it again, as the relay does once the dead worker's lease has passed."""
        from .models import Delivery

        delivery_id, token = pair
        Delivery.objects.using(self._using).filter(id=delivery_id).update(
            state=Delivery.State.SENT, token=token + 1, attempts=0
        )
        return delivery_id, token + 1

    def _loop(self) -> str:
        rows = {row.id: row for row in self._all_rows()}
        names: list[str] = []
        row = rows[max(rows, key=lambda id: rows[id].seq)] if rows else None
        while row is not None and row.name not in names:
            names.append(row.name)
            row = rows.get(row.causation_id) if row.causation_id else None
        start = names.index(row.name) if row is not None else 0
        loop = names[start:][::-1]
        return " -> ".join([*loop, loop[0]]) if loop else "no event"

    def _all_rows(self) -> list[Event]:
        from .models import Event

        return list(Event.objects.using(self._using).order_by("-seq")[:1000])


class OutboxTestMixin:
    """Mixin that adds `self.outbox` to a Django TestCase."""

    @property
    def outbox(self) -> Outbox:
        """The test's outbox."""
        if "_outbox" not in self.__dict__:
            self.enterContext(without_threads())  # type: ignore[attr-defined]  # the TestCase's
            self.enterContext(clock.host_time())  # type: ignore[attr-defined]  # the TestCase's
            self.__dict__["_outbox"] = Outbox()
        outbox: Outbox = self.__dict__["_outbox"]
        return outbox


class _LongestWaits(SystemRandom):
    """A random source that draws the longest backoff, so that no test meets an early retry."""

    def uniform(self, _least: float, most: float) -> float:
        """Return the upper bound."""
        return most


@contextmanager
def _longest_waits() -> Iterator[None]:
    before, settlement._rng = settlement._rng, _LongestWaits()
    try:
        yield
    finally:
        settlement._rng = before


class _Died(BaseException):
    """The worker died. Like a kill, it passes every `except Exception`."""


def _die() -> None:
    raise _Died


def _raise_first(results: Sequence[Result]) -> None:
    for result in results:
        if result.error is not None:
            raise result.error


def _guess_key(name: str, fields: dict[str, Any]) -> str:
    for field, value in fields.items():
        if field.endswith("_id"):
            return str(value)
    raise AssertionError(f'given("{name}") needs key=..., because no field ends in "_id".')


def _as_object(row: Event | DelayedEvent) -> Any:
    known = events.find(row.name)
    if known is None:
        return SimpleNamespace(**row.payload)
    return upcasting.as_event(known, upcasting.current_payload(row))
