"""Inline deliveries: the relay's process runs a delivery that would be alone in its message."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.contrib.auth.models import Group
from django.db import Error, OperationalError, connections, transaction
from django.utils import timezone

from outbox import DomainEvent, Receipt, emit, subscribe
from outbox.models import Attempt, DelayedEvent, Delivery, Event, Heartbeat
from outbox.relay import loop
from outbox.relay import passes as relay_module
from outbox.relay.fan_out import fan_out
from outbox.relay.loop import RelayLoop
from outbox.relay.passes import relay_pass
from outbox.testing import Outbox
from outbox.transports.base import Message
from outbox.transports.inline import InlineTransport
from outbox.worker.delivery import deliver_started
from outbox.worker.outcome import Result
from tests.outbox.drive import run_pass
from tests.outbox.relays import FakeTransport, relay_loop
from tests.processes import eventually

HOUR = 3600.0


@pytest.fixture
def published() -> FakeTransport:
    """A transport that keeps the published messages."""
    return FakeTransport()


@contextmanager
def relaying(
    published: FakeTransport,
    worker: str = "relay@host",
    deliver: Callable[[Delivery], object] = deliver_started,
) -> Iterator[RelayLoop]:
    running = relay_loop(worker, transport=published, deliver=deliver)
    running.start()
    try:
        yield running
    finally:
        running.stop()


def is_done(number: int) -> bool:
    return Delivery.objects.filter(state="done").count() == number


def wait_until_done(number: int) -> None:
    eventually(lambda: is_done(number), f"{number} done")


def wait_until_idle(running: RelayLoop) -> None:
    """Without it the next delivery is sent to workers."""
    eventually(lambda: not running._inline._is_running, "its handler has ended")


def emit_order(outbox: Outbox, number: int = 0) -> None:
    outbox.given("shops.Ordered", order_id=uuid4(), number=number)


class Ordered(DomainEvent, key="order_id"):
    order_id: UUID


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("own_registry", "no_nudge")
class TestAnInlineHandler:
    def test_is_run_by_the_relay_itself(self, published: FakeTransport):
        @subscribe("shops.Ordered", inline=True)
        def count(number: int) -> None:
            Group.objects.create(name=str(number))

        outbox = Outbox()
        with relaying(published) as running:
            for number in range(3):
                emit_order(outbox, number)
                running.nudge()
                wait_until_done(number + 1)
                wait_until_idle(running)

        assert published == []
        assert set(Group.objects.values_list("name", flat=True)) == {"0", "1", "2"}
        assert set(Delivery.objects.values_list("worker", "attempts")) == {("relay@host", 1)}

    @pytest.mark.postgresql
    def test_is_run_if_the_name_of_the_process_is_long(self, published: FakeTransport):
        """Failed: the relay stopped, since PostgreSQL refused to store the name."""
        numbers = []

        @subscribe("shops.Ordered", inline=True)
        def count(number: int) -> None:
            numbers.append(number)

        with relaying(published, "relay@" + "h" * 200) as running:
            emit_order(Outbox())
            running.nudge()
            wait_until_done(1)

        assert numbers == [0]

    def test_leaves_other_handlers_of_the_event_to_workers(self, published: FakeTransport):
        """Seen to fail with `accepts` that does not ask what the handler wants."""

        @subscribe("shops.Ordered")
        def mail() -> None: ...

        @subscribe("shops.Ordered", inline=True)
        def count() -> None: ...

        outbox = Outbox()
        emit_order(outbox)
        with relaying(published):
            wait_until_done(1)
            published.wait_for(1)

        assert published[0].handler == "tests.mail"

    def test_leaves_a_backlog_to_workers(self, published: FakeTransport):
        """Seen to fail with `_start_one` that takes the first of several."""

        @subscribe("shops.Ordered", inline=True)
        def count() -> None: ...

        outbox = Outbox()
        for _ in range(3):
            emit_order(outbox)
        with relaying(published):
            published.wait_for(3)

        assert not Delivery.objects.filter(state="done").exists()

    @pytest.mark.postgresql  # on SQLite nobody else can write while a handler is at it
    def test_leaves_the_next_delivery_to_workers_while_it_is_slow(self, published: FakeTransport):
        """Seen to fail with a relay that runs it in its turn: nothing is published meanwhile."""
        is_running, may_end = threading.Event(), threading.Event()

        @subscribe("shops.Ordered", inline=True)
        def count() -> None:
            is_running.set()
            assert may_end.wait(60)

        outbox = Outbox()
        with relaying(published) as running:
            emit_order(outbox)
            assert is_running.wait(60)
            for number in (1, 2):
                emit_order(outbox)
                running.nudge()
                published.wait_for(*[1] * number)
            may_end.set()
            wait_until_done(1)
            wait_until_idle(running)
            emit_order(outbox)
            wait_until_done(2)

        assert len(published) == 2

    def test_is_retried_by_workers(self, published: FakeTransport):

        @subscribe("shops.Ordered", inline=True, backoff_base=0.01, backoff_cap=0.01)
        def count() -> None:
            raise ValueError

        outbox = Outbox()
        emit_order(outbox)
        with relaying(published):
            published.wait_for(1)

        assert published[0].pairs[0][1] == 2
        attempt = Attempt.objects.get()
        assert (attempt.outcome, attempt.worker) == ("failed", "relay@host")

    def test_that_hangs_is_interrupted_in_the_relay(self, published: FakeTransport):
        @subscribe("shops.Ordered", inline=True, time_limit=0.2, attempts=1)
        def count() -> None:
            end = time.monotonic() + 15
            while time.monotonic() < end:
                time.sleep(0.01)

        outbox = Outbox()
        emit_order(outbox)
        with relaying(published):
            eventually(Attempt.objects.exists, "it is interrupted", within=60)

        assert Attempt.objects.get().exception == "TimeLimitExceeded"

    @pytest.mark.parametrize("error", [RuntimeError, SystemExit])
    def test_takes_the_next_deliveries_after_interrupted_runs(
        self, published: FakeTransport, error: type[BaseException]
    ):
        """Seen to fail without the `finally` of `run`, and with its `except Exception`."""
        failures = [error(), error()]

        def fail_twice(delivery: Delivery) -> list[Result]:
            if failures:
                raise failures.pop()
            return deliver_started(delivery)

        @subscribe("shops.Ordered", inline=True)
        def count() -> None: ...

        outbox, end = Outbox(), time.monotonic() + 60
        with relaying(published, deliver=fail_twice) as running:
            while not Delivery.objects.filter(state="done").exists():
                assert time.monotonic() < end
                emit_order(outbox)
                running.nudge()
                # One at a time, however slow the machine is: what comes in a crowd is published.
                while Event.objects.filter(fanned_out_at=None).exists():
                    assert time.monotonic() < end
                    time.sleep(0.05)

    def test_is_run_although_the_broker_is_unavailable(self, published: FakeTransport):
        """Seen to fail with a relay that waits for the broker first."""
        published.error, published.is_there = ConnectionError(), lambda: False

        @subscribe("shops.Ordered", inline=True)
        def count() -> None: ...

        @subscribe("shops.Ordered")
        def mail() -> None: ...

        outbox = Outbox()
        emit_order(outbox)
        with relaying(published):
            wait_until_done(1)

        assert Delivery.objects.get(state="done").subscription.handler == "tests.count"

    def test_is_run_although_the_answer_to_its_commit_is_lost(
        self, published: FakeTransport, monkeypatch: pytest.MonkeyPatch, caplog
    ):
        """Seen to fail without `forget_unless_stored`: nobody runs what is started."""
        raise_once = iter([OperationalError("server closed the connection unexpectedly")])

        def count_after_the_commit(*_arguments: object) -> None:
            for error in raise_once:
                raise error

        monkeypatch.setattr(relay_module, "_count", count_after_the_commit)

        @subscribe("shops.Ordered", inline=True)
        def count() -> None: ...

        outbox = Outbox()
        emit_order(outbox)
        with relaying(published):
            wait_until_done(1)

        assert "A relay pass failed" in caplog.text
        assert not Attempt.objects.exists()

    def test_is_not_run_if_its_pass_is_rolled_back(
        self, published: FakeTransport, monkeypatch: pytest.MonkeyPatch
    ):
        """Seen to fail where nobody asks whether it is stored: it runs without a row, and again."""
        raise_once = iter([ValueError("rolled back")])

        def fail_before_the_commit(*arguments: Any, **options: Any) -> None:
            fan_out(*arguments, **options)
            for error in raise_once:
                raise error

        monkeypatch.setattr(relay_module, "fan_out", fail_before_the_commit)
        runs: list[int] = []

        @subscribe("shops.Ordered", inline=True)
        def count(number: int) -> None:
            runs.append(number)

        outbox = Outbox()
        emit_order(outbox, 7)
        with relaying(published):
            wait_until_done(1)

        assert runs == [7]

    @pytest.mark.postgresql
    def test_frees_its_slot_immediately(self, published: FakeTransport, settings):
        """Seen to fail without `refill`: the next one waits for the floor."""
        settings.OUTBOX = {**settings.OUTBOX, "POLL_SECONDS": HOUR}
        is_running, may_end = threading.Event(), threading.Event()

        @subscribe("shops.Ordered", inline=True, window=1)
        def count() -> None:
            is_running.set()
            assert may_end.wait(60)

        outbox = Outbox()
        emit_order(outbox)
        with relaying(published) as running:
            assert is_running.wait(60)
            emit_order(outbox)
            running.nudge()
            eventually(lambda: Delivery.objects.count() == 2, "it is fanned out")
            may_end.set()
            published.wait_for(1)

    def test_does_not_stop_the_heartbeat_of_its_relay(
        self, published: FakeTransport, monkeypatch: pytest.MonkeyPatch
    ):
        """Seen to fail without the heartbeat after a run: each pass may end with one."""
        monkeypatch.setattr(loop, "_FIRST_SECONDS", HOUR)

        @subscribe("shops.Ordered", inline=True)
        def count() -> None: ...

        outbox = Outbox()
        emit_order(outbox)
        with relaying(published, "relay@elsewhere") as running:
            running.nudge()
            wait_until_done(1)
            beats = Heartbeat.objects.filter(name="relay@elsewhere")
            eventually(beats.exists, "a heartbeat")

    @pytest.mark.postgresql
    def test_leaves_no_broken_connection_to_another_database(
        self, published: FakeTransport, monkeypatch: pytest.MonkeyPatch
    ):
        """Seen to fail without `_drop_broken_connections`: all that need it fail."""
        monkeypatch.setitem(connections.settings, "second", connections.settings["default"])
        broken: list[Any] = []

        @subscribe("shops.Ordered", inline=True)
        def count() -> None:
            second = connections["second"]
            second.connect()
            second.connection.close()
            with pytest.raises(Error), second.cursor() as cursor:
                cursor.execute("SELECT 1")
            broken.append(second)

        outbox = Outbox()
        emit_order(outbox)
        with relaying(published):
            wait_until_done(1)
            eventually(lambda: broken[0].connection is None, "it is dropped")

    def test_delays_the_stop_of_the_relay_until_it_ends(self, published: FakeTransport):
        is_running = threading.Event()

        @subscribe("shops.Ordered", inline=True)
        def count() -> None:
            is_running.set()
            time.sleep(0.3)

        outbox = Outbox()
        emit_order(outbox)
        with relaying(published):
            assert is_running.wait(60)

        assert Delivery.objects.get().state == "done"

    def test_delays_no_due_event_although_the_relay_is_nudged_repeatedly(
        self, published: FakeTransport, settings, monkeypatch: pytest.MonkeyPatch
    ):
        """Seen to fail with a pace of each `relay()` its own: all are hinted, and end at once."""
        monkeypatch.setattr(loop, "_FIRST_SECONDS", 0.5)  # so that a nudge comes first, always
        settings.OUTBOX = {**settings.OUTBOX, "POLL_SECONDS": 0.2}

        @subscribe("tests.Ordered", inline=True)
        def count() -> None: ...

        Outbox()  # which stores its subscription
        with transaction.atomic():
            emit(Ordered(order_id=uuid4()), delay=timedelta(seconds=0.3))
        with relaying(published) as running:
            end, number = time.monotonic() + 60, 0
            while DelayedEvent.objects.exists():
                with transaction.atomic():
                    emit(Ordered(order_id=uuid4()))
                running.nudge()
                number += 1
                while not is_done(number) and DelayedEvent.objects.exists():
                    assert time.monotonic() < end


def for_here() -> InlineTransport:
    return InlineTransport("relay@host", deliver_started)


def start_one() -> Delivery:
    """Run a pass that starts a delivery for this process, as the loop does."""
    published: list[Message] = []
    inline = for_here()
    relay_pass(publish=published.append, inline=inline)
    assert published == []
    assert inline.started is not None
    return inline.started


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("own_registry", "no_nudge")
class TestADeliveryThatIsStartedAtItsCreation:
    def test_equals_its_stored_row(self):
        """It is not read again before its handler runs."""

        @subscribe("shops.Ordered", inline=True)
        def count() -> None: ...

        emit_order(Outbox())
        started = start_one()

        row = Delivery.objects.select_related("event", "subscription").get()
        names = (
            "id",
            "event_id",
            "subscription_id",
            "state",
            "token",
            "started_token",
            "attempts",
            "order_key",
            "started_at",
            "worker",
            "due_at",
        )
        assert [getattr(started, name) for name in names] == [getattr(row, name) for name in names]
        assert (started.event, started.event.payload) == (row.event, row.event.payload)
        assert started.subscription == row.subscription
        assert row.is_started

    def test_counts_a_crash_of_its_process(self):
        """Seen to fail with a row that does not say that it was started."""

        @subscribe("shops.Ordered", inline=True)
        def count() -> None: ...

        emit_order(Outbox())
        start_one()
        Delivery.objects.update(due_at=timezone.now())

        run_pass()

        assert Attempt.objects.get().outcome == "died"

    @pytest.mark.postgresql  # on SQLite its lease and its handler would wait for each other
    def test_has_a_new_lease_if_its_pass_took_long(self):
        """Seen to fail with a lease that counts from the run: another one would start beside it."""

        leases: list[datetime] = []

        @subscribe("shops.Ordered", inline=True, lease=60, time_limit=40)
        def count() -> None:
            leases.append(Delivery.objects.get().due_at)

        emit_order(Outbox())
        started = start_one()
        assert started.started_at is not None
        started.started_at -= timedelta(seconds=50)
        Delivery.objects.update(
            started_at=started.started_at, due_at=timezone.now() + timedelta(seconds=10)
        )

        deliver_started(started)

        assert leases[0] > timezone.now() + timedelta(seconds=30)

    def test_is_released_by_code_that_cannot_read_its_event(self):
        """Seen to fail without `hand_back_newer` in `deliver_started`."""

        class Grown(DomainEvent, key="order_id", version=1):
            order_id: UUID

        @subscribe("tests.Grown", inline=True)
        def count() -> None: ...

        Outbox().given("tests.Grown", stored_version=2, order_id=uuid4())

        assert deliver_started(start_one()) == []

        row = Delivery.objects.get()
        assert (row.state, row.attempts) == ("pending", 0)
        assert "cannot read version 2" in row.note

    def test_is_released_by_code_that_lacks_its_handler(self):
        @subscribe("shops.Ordered", inline=True)
        def count() -> None: ...

        emit_order(Outbox())
        started = start_one()
        started.subscription.handler = "tests.renamed"

        assert deliver_started(started) == []

        row = Delivery.objects.get()
        assert (row.state, row.attempts) == ("pending", 0)
        assert "has no handler tests.renamed" in row.note

    def test_is_sent_to_workers_if_the_pass_has_sent_another_one(self):
        """Seen to fail without the look at what the lane has claimed: two messages for one."""

        @subscribe("shops.Ordered", inline=True)
        def count() -> None: ...

        outbox = Outbox()
        emit_order(outbox)
        run_pass()
        Delivery.objects.update(state="pending", due_at=timezone.now())
        emit_order(outbox)
        sent: list[Message] = []

        relay_pass(publish=sent.append, inline=(inline := for_here()))

        assert inline.started is None
        assert [len(message.pairs) for message in sent] == [2]


@pytest.mark.usefixtures("own_registry")
class TestAHandlerThatCallsAnExternalSystem:
    def test_cannot_be_inline(self):
        with pytest.raises(TypeError, match="inline=True needs atomic=True"):

            @subscribe("shops.Ordered", atomic=False, inline=True)
            def charge(receipt: Receipt) -> None: ...


@pytest.mark.usefixtures("own_registry")
class TestAnOrderedHandler:
    def test_cannot_be_inline(self):
        with pytest.raises(TypeError, match="inline deliveries may run out of order"):

            @subscribe("shops.Ordered", ordered=True, inline=True)
            def count() -> None: ...
