"""The local transport, with a relay and a pool in this process, and without a broker."""

from __future__ import annotations

import threading
import time
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.contrib.auth.models import Group
from django.db import connection, connections, transaction

from outbox import DomainEvent, Receipt, databases, emit, subscribe
from outbox.deliveries.transient_errors import DatabaseAccess
from outbox.local.process import WorkProcess
from outbox.models import Attempt, Delivery, Subscription
from outbox.relay import fan_out as fan_out_module
from outbox.relay import passes
from outbox.testing import Outbox
from outbox.transports import local
from outbox.transports.base import Message
from tests.outbox.drive import emit_events
from tests.outbox.work_threads import working
from tests.processes import eventually

HOUR = 3600.0

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("own_registry", "local"),
]


class Ordered(DomainEvent, key="order_id"):
    order_id: UUID


class Billed(DomainEvent, key="order_id"):
    order_id: UUID


@pytest.fixture(name="local")
def _local(settings: Any) -> None:
    settings.OUTBOX = {**settings.OUTBOX, "TRANSPORTS": ["local"], "NUDGE": False}


def wait_until_done(number: int) -> None:
    done = Delivery.objects.filter(state="done")
    eventually(lambda: done.count() == number, f"{number} done")


def emit_order() -> None:
    with transaction.atomic():
        emit(Ordered(order_id=uuid4()))


class TestAProcessWithoutABroker:
    def test_runs_a_single_delivery_with_one_start_and_no_message(
        self, monkeypatch: pytest.MonkeyPatch
    ):
        """Its start is stored by the pass. Seen to fail without `accepts`."""
        messages: list[object] = []
        monkeypatch.setattr(
            local.LocalTransport, "dispatch", lambda self, message: messages.append(message)
        )

        @subscribe("tests.Ordered")
        def bill() -> None:
            Group.objects.create(name="billed")

        Outbox()
        with working():
            emit_order()
            wait_until_done(1)

        assert messages == []
        assert Group.objects.count() == 1

    def test_starts_no_delivery_of_a_handler_that_it_does_not_have(self):
        """During a deploy, a process of the release before hands it back. No lease expires."""

        @subscribe("tests.Ordered")
        def bill() -> None: ...

        Outbox()
        Subscription.objects.update(handler="tests.renamed")
        with working():
            emit_order()
            handed_back = Delivery.objects.filter(note__contains="has no handler tests.renamed")
            eventually(handed_back.exists, "it is handed back")

        row = Delivery.objects.get()
        assert (row.state, row.attempts, row.started_token) == ("pending", 0, 0)

    @pytest.mark.parametrize("threads", [1, 3])
    def test_runs_a_backlog_of_several_handlers(self, threads: int):
        @subscribe("shops.Ordered")
        def bill(order_id: UUID) -> None:
            Group.objects.create(name=f"billed {order_id}")

        @subscribe("shops.Ordered", atomic=False)
        def pack(order_id: UUID, receipt: Receipt) -> None:
            with receipt:
                Group.objects.create(name=f"packed {order_id}")

        @subscribe("shops.Ordered", ordered=True)
        def weigh(order_id: UUID) -> None:
            Group.objects.create(name=f"weighed {order_id}")

        emit_events("shops.Ordered", 40)
        with working(threads=threads):
            wait_until_done(120)

        assert Group.objects.count() == 120
        assert not Attempt.objects.exists()

    def test_finds_events_of_its_own_handlers_without_a_poll(self, settings: Any):
        settings.OUTBOX = {**settings.OUTBOX, "POLL_SECONDS": HOUR, "NUDGE": True}

        @subscribe("tests.Ordered")
        def bill(order_id: UUID) -> None:
            emit(Billed(order_id=order_id))

        @subscribe("tests.Billed")
        def pack() -> None: ...

        Outbox()
        with working():
            emit_order()
            wait_until_done(2)

    def test_retries_a_delivery_that_failed(self, settings: Any):
        settings.OUTBOX = {**settings.OUTBOX, "POLL_SECONDS": 0.05}

        @subscribe("shops.Ordered", backoff_base=0.01)
        def bill(attempt: int) -> None:
            if attempt == 1:
                raise ValueError("no paper")

        emit_events("shops.Ordered")
        with working():
            wait_until_done(1)

        assert Attempt.objects.count() == 1

    def test_interrupts_a_handler_in_a_thread_at_its_time_limit(self):
        @subscribe("shops.Ordered", lease=60, time_limit=0.2, attempts=1)
        def bill() -> None:
            while True:
                time.sleep(0.01)

        emit_events("shops.Ordered")
        with working():
            dead = Delivery.objects.filter(state="dead")
            eventually(dead.exists, "its only attempt is used up")

        assert Attempt.objects.get().exception == "TimeLimitExceeded"

    def test_hands_back_what_waits_when_it_stops(self):
        """Seen to fail without the hand-back: the message waits for its lease."""
        entered, go_on = threading.Event(), threading.Event()

        @subscribe("shops.Ordered", atomic=False)
        def bill(receipt: Receipt) -> None:
            entered.set()
            assert go_on.wait(60)
            with receipt:
                pass

        emit_events("shops.Ordered", 2)
        with working(threads=1) as process:
            assert entered.wait(60)
            waiting = Delivery.objects.filter(state="sent", started_token=0)
            eventually(waiting.exists, "a message waits")
            process._transport.pool.close()
            process._relay.stop()
            process._hand_back_all()

            [row] = Delivery.objects.filter(state="pending")
            assert row.note == "no thread of its worker was idle"
            go_on.set()

    def test_serves_no_other_queue(self):
        @subscribe("shops.Ordered", queue="bills")
        def bill() -> None: ...

        @subscribe("shops.Ordered", queue="parcels")
        def pack() -> None: ...

        emit_events("shops.Ordered")
        with working(queues=("parcels",)):
            wait_until_done(1)

        [row] = Delivery.objects.exclude(state="done").select_related("subscription")
        assert (row.subscription.queue, row.state) == ("bills", "pending")

    def test_nudges_other_processes_if_it_does_not_serve_all_queues(self):
        process = WorkProcess(threads=1, queues=["parcels"], stop_seconds=1)

        assert not process._nudge_own("default")
        assert WorkProcess(threads=1, stop_seconds=1)._nudge_own("default")

    def test_releases_the_thread_of_a_start_that_was_rolled_back(
        self, monkeypatch: pytest.MonkeyPatch, settings: Any
    ):
        """Seen to fail without `forget_unless_stored`: its only thread stays reserved."""
        settings.OUTBOX = {**settings.OUTBOX, "POLL_SECONDS": 0.05}
        fail_once: list[int] = []
        fan_out = fan_out_module.fan_out

        def failing(*arguments: Any, **options: Any) -> None:
            fan_out(*arguments, **options)
            if not fail_once:
                fail_once.append(1)
                raise ValueError("of a test")

        monkeypatch.setattr(passes, "fan_out", failing)

        @subscribe("shops.Ordered")
        def bill() -> None: ...

        emit_events("shops.Ordered")
        with working(threads=1):
            wait_until_done(1)

    def test_runs_on_after_a_handler_that_ends_its_thread(self, settings: Any):
        settings.OUTBOX = {**settings.OUTBOX, "POLL_SECONDS": 0.05}

        @subscribe("shops.Ordered", attempts=1, lease=1)
        def bill(order_id: UUID) -> None:
            raise SystemExit

        @subscribe("shops.Ordered")
        def pack() -> None: ...

        emit_events("shops.Ordered", 3)
        with working(threads=1):
            wait_until_done(3)

    def test_drops_a_broken_connection_before_a_started_delivery(
        self, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setattr(local, "_UNUSED_SECONDS", -1.0)
        monkeypatch.setattr(type(connections["default"]), "is_usable", lambda self: False)
        dropped: list[str] = []
        monkeypatch.setattr(local, "drop", lambda one: dropped.append(one.alias))

        connection.ensure_connection()
        monkeypatch.setattr(connections["default"], "close_at", None)
        local._prepare_connections()

        assert dropped == [databases.alias()]


class TestAPassThatFoundNoFreeThread:
    """It leaves due deliveries to the next thread that is idle."""

    def test_is_repeated_if_the_last_item_ended_meanwhile(self, monkeypatch: pytest.MonkeyPatch):
        """Seen to fail if `note_run_out` relies on an item that ends later."""
        transport = WorkProcess(threads=1, stop_seconds=1)._transport.each["default"]
        woken: list[int] = []
        transport.wake = lambda: woken.append(1)

        transport.free()
        transport.note_run_out()
        assert not woken

        transport.free()
        transport.pool._note(0.1)
        transport.note_run_out()
        assert woken

    def test_is_repeated_when_the_thread_is_idle_again(self):
        """Seen to fail if the thread nudges before the pool counts it as idle."""
        transport = WorkProcess(threads=1, stop_seconds=1)._transport.each["default"]
        idle: list[bool] = []
        transport.wake = lambda: idle.append(transport.pool.is_idle)
        transport.note_run_out()
        thread = threading.Thread(target=transport.work, daemon=True)
        thread.start()

        transport.pool.put(Message("tests.none", "outbox", 1, (), refill=True))

        eventually(lambda: idle, "it nudges")
        transport.pool.close()
        thread.join(60)
        assert idle == [True]


class TestAStartThatIsNotStored:
    def test_is_forgotten(self):
        """So its thread is not reserved for ever."""
        access = DatabaseAccess(databases.alias())
        process = WorkProcess(threads=1, stop_seconds=1)

        process._transport.each["default"].forget_unless_stored(access)

        assert process._transport.pool.is_idle
