"""The environment of the engine: producers, a clock, a broker, relays and workers."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, NamedTuple
from uuid import UUID

import pytest
import time_machine
from django.db import transaction
from django.utils import timezone

from outbox import emit
from outbox.deliveries import failpoints, settlement, transient_errors
from outbox.models import Delivery, Event, Subscription
from outbox.relay.passes import relay_pass
from outbox.relay.publishing import BrokerUnavailable
from outbox.transports.base import Message
from outbox.worker.delivery import deliver
from tests.outbox.model.actions import EVENTS, STALLING, Died, Mood, Relay, die
from tests.outbox.model.handlers import Worker, act, fail, subscribe_all
from tests.outbox.model.reference import LEASE, Debt, Policy, Reference

START = datetime(2030, 1, 1, tzinfo=UTC)


class Later(NamedTuple):
    """An event that was emitted with a delay."""

    due_at: datetime
    number: int
    name: str
    key: str


class Seen(NamedTuple):
    """A stored delivery, and its expected state in the model."""

    pk: int
    state: str
    attempts: int
    note: str
    debt: Debt


class World:
    """The real engine on the test's database. `close()` rolls everything back.

    `violations` lists failed checks within handlers, where an assertion would fail only an attempt.
    """

    def __init__(self) -> None:
        self.model = Reference()
        self.queue: list[Message] = []
        self.history: list[Message] = []
        self.delayed: dict[UUID, Later] = {}
        self.violations: list[str] = []
        self._numbers: dict[UUID, int] = {}  # of all emitted events
        self._debts: dict[int, Debt] = {}  # by the ids of their deliveries
        self._workers: list[Worker] = []
        self._open = ExitStack()
        self._open.enter_context(_sandbox())
        self.clock = self._open.enter_context(time_machine.travel(START, tick=False))
        self._open.enter_context(_fixed_chance())
        for point, action in (
            (failpoints.AFTER_START, self._after_start),
            (failpoints.BEFORE_EFFECTS, self._before_effects),
            (failpoints.BEFORE_RECEIPT, self._before_receipt),
            (failpoints.AFTER_RECEIPT, self._after_receipt),
        ):
            self._open.enter_context(failpoints.armed(point, action))
        subscribe_all(self._handle)
        rows = Subscription.objects.values_list("pk", "handler")
        self._handlers: dict[int, str] = dict(rows)

    def close(self) -> None:
        self._open.close()

    def check(self, is_true: bool, violation: str) -> None:
        if not is_true:
            self.violations.append(violation)

    def emit(self, name: str, *, key: str, delay: timedelta | None = None) -> None:
        number = len(self._numbers) + 1
        with transaction.atomic():
            event_id = emit(EVENTS[name](thing=key, number=number), delay=delay)
        self._numbers[event_id] = number
        if delay:
            self.delayed[event_id] = Later(timezone.now() + delay, number, name, key)
        else:
            self.model.emit(name, number=number, key=key)

    def relay(self, how: Relay = Relay.WORKS) -> int:
        """Run one pass. Return the number of sent messages."""
        sent = len(self.history)
        self._emit_due()
        self.model.sweep(timezone.now())
        publish = _PUBLISH.get(how, World._publish)
        with suppress(Died, BrokerUnavailable), self._interrupted(how):
            relay_pass(publish=partial(publish, self))
        self.stored_deliveries()
        return len(self.history) - sent

    def _interrupted(self, how: Relay) -> AbstractContextManager[None]:
        if how is Relay.DIES_WHILE_SENDING:
            return failpoints.armed(failpoints.AFTER_PUBLISH, die)
        actions = {Relay.DIES_AFTER_CLAIM: die, Relay.MEETS_ANOTHER: self._run_second_relay}
        return failpoints.armed(failpoints.AFTER_CLAIM, actions.get(how, _do_nothing))

    def _run_second_relay(self) -> None:
        failpoints.arm(failpoints.AFTER_CLAIM, _do_nothing)
        relay_pass(publish=self._publish)

    def _emit_due(self) -> None:
        due = [(later, id) for id, later in self.delayed.items() if later.due_at <= timezone.now()]
        for later, event_id in sorted(due):
            self.model.emit(later.name, number=later.number, key=later.key)
            del self.delayed[event_id]

    def _publish(self, message: Message) -> None:
        known = [self._debts[pk] for pk, _ in message.pairs if pk in self._debts]
        is_sent_alone = len(message.pairs) == 1 or not any(debt.starts for debt in known)
        self.check(is_sent_alone, f"sent with others, although tried before: {known}")
        self.queue.append(message)
        self.history.append(message)

    def _refuse(self, message: Message) -> None:
        raise ConnectionError("no broker")

    def _take_and_hang_up(self, message: Message) -> None:
        self._publish(message)
        self.stored_deliveries()
        self.work(message)
        raise ConnectionError("the broker did not confirm the message")

    def take_all(self) -> list[Message]:
        """Empty the broker."""
        taken, self.queue = self.queue, []
        return taken

    def work(self, message: Message, mood: Mood = Mood.WORKS) -> None:
        """Deliver a message. The mood is that of its first run."""
        worker = Worker({self._debts[pk]: token for pk, token in message.pairs}, mood)
        self._workers.append(worker)
        with suppress(Died):
            deliver(handler_name=message.handler, pairs=message.pairs, worker="w")
        self._workers.pop()

    def _after_start(self) -> None:
        worker, now = self._workers[-1], timezone.now()
        stored = dict(Delivery.objects.values_list("pk", "started_token"))
        for debt in worker.tokens:
            started_token = stored.get(debt.pk, 0)
            if debt.started_token < started_token:
                may = self.model.may_start(debt, token=worker.tokens[debt])
                self.check(may, f"started, but must not: {debt}")
                worker.started.append(debt)
                worker.tokens[debt] = started_token
        lease = LEASE * 4 / 3 if len(worker.started) > 1 else LEASE
        for debt in worker.started:
            debt.start(token=worker.tokens[debt], until=now + lease)
        if worker.mood is Mood.DIES_AT_START:
            die()

    def _handle(self, policy: Policy, number: int, receipt: AbstractContextManager[Any]) -> None:
        worker, debt = self._workers[-1], self.model.debts[policy.name, number]
        self.check(debt in worker.started, f"runs without a start: {debt}")
        worker.current, mood = debt, worker.mood
        if not policy.atomic:
            self._stall(mood)
        fail(worker, mood := self._take_mood(worker))
        if mood is Mood.FORGETS_RECEIPT and not policy.atomic:
            debt.end()
            return
        with receipt:
            self.check(worker.has_lease, f"got its receipt without its lease: {debt}")
            act(debt)
            worker.acted.append(debt)

    def _stall(self, mood: Mood) -> None:
        """Let the lease pass, so that the relay sends the delivery again."""
        if mood in STALLING:
            for _ in range(2):
                self.clock.shift(LEASE + timedelta(seconds=1))
                self.relay()
        if mood is Mood.IS_OVERTAKEN:
            for message in self.take_all():
                self.work(message)

    def _take_mood(self, worker: Worker) -> Mood:
        """Return the mood of this run. After the first run all others work, unless it dies."""
        mood = worker.mood
        if mood not in (Mood.DIES_AT_RECEIPT, Mood.DIES_AFTERWARDS):
            worker.mood = Mood.WORKS
        return mood

    def _before_receipt(self) -> None:
        if self._workers[-1].mood is Mood.DIES_AT_RECEIPT:
            die()

    def _before_effects(self) -> None:
        self._workers[-1].acted.clear()

    def _after_receipt(self) -> None:
        worker = self._workers[-1]
        for debt in worker.acted:
            debt.end(is_done=True)
        if worker.mood is Mood.DIES_AFTERWARDS:
            die()

    def stored_deliveries(self) -> list[Seen]:
        """Return all deliveries, and check that tokens only grow."""
        numbers = {seq: self._numbers[id] for seq, id in Event.objects.values_list("seq", "id")}
        columns = ("pk", "state", "attempts", "note", "token", "event_id", "subscription_id")
        found: list[Seen] = []
        for *row, token, seq, subscription in Delivery.objects.order_by("pk").values_list(*columns):
            debt = self.model.debts[self._handlers[subscription], numbers[seq]]
            self.check(token >= debt.token, f"its token decreased to {token}: {debt}")
            debt.pk, debt.token = row[0], token
            self._debts[debt.pk] = debt
            pk, state, attempts, note = row
            found.append(Seen(pk, state, attempts, note, debt))
        return found

    def emitted(self) -> set[int]:
        """Return the numbers of the events that are stored."""
        return {self._numbers[id] for id in Event.objects.values_list("id", flat=True)}


_PUBLISH = {
    Relay.BROKER_IS_AWAY: World._refuse,
    Relay.BROKER_HANGS_UP: World._take_and_hang_up,
}


def is_anything_waiting() -> bool:
    return Event.objects.filter(fanned_out_at=None).exists()


def _do_nothing() -> None: ...


@contextmanager
def _fixed_chance() -> Iterator[None]:
    """Use the same jitter each time, and do not wait for the database after a failure of it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(settlement, "_rng", random.Random(0))
        patch.setattr(transient_errors, "_TRIES", 1)
        yield


@contextmanager
def _sandbox() -> Iterator[None]:
    """Open a transaction that is marked as a TestCase's, and roll it back."""
    block = transaction.atomic()
    block._from_testcase = True  # type: ignore[attr-defined]  # Django's own mark
    with block:
        yield
        transaction.set_rollback(True)
