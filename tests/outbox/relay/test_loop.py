"""The relay's loop, without a broker: the times of its passes, and its failures."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from uuid import uuid4

import pytest
from django.db import connections

from outbox import subscribe
from outbox.conf import Conf
from outbox.deliveries import heartbeat
from outbox.models import Heartbeat
from outbox.relay import loop
from outbox.relay.loop import RelayLoop
from outbox.relay.passes import relay
from outbox.relay.publishing import BrokerUnavailable
from outbox.testing import Outbox
from outbox.transports.base import Message
from outbox.transports.inline import InlineTransport
from outbox.worker.delivery import deliver_started
from tests.outbox.relays import FakeTransport, relay_loop
from tests.processes import eventually

HOUR = 3600.0


class Scans:
    """Replaces the relay, and counts its passes."""

    def __init__(self) -> None:
        self.number = 0
        self.during: Callable[[], object] = lambda: None

    def __call__(self, **_options: object) -> int:
        self.number += 1
        self.during()
        return 0

    def reach(self, number: int) -> None:
        eventually(lambda: self.number >= number, f"scan {number}")


@pytest.fixture
def scans(monkeypatch: pytest.MonkeyPatch) -> Scans:
    scans = Scans()
    monkeypatch.setattr(loop, "relay", scans)
    return scans


@contextmanager
def running(transport: FakeTransport | None = None) -> Iterator[RelayLoop]:
    running_loop = relay_loop(transport=transport)
    running_loop.start()
    try:
        yield running_loop
    finally:
        running_loop.stop()


class TestTheLoop:
    def test_polls_after_the_poll_interval(self, scans: Scans, settings):
        """Rule 12. Seen to fail without the time-out in `run`."""
        settings.OUTBOX = {"POLL_SECONDS": 0.01}

        with running():
            scans.reach(5)

    def test_polls_each_second_by_default(self):
        assert Conf().POLL_SECONDS == 1.0

    def test_runs_a_pass_immediately_when_it_is_nudged(self, scans: Scans, settings):
        settings.OUTBOX = {"POLL_SECONDS": HOUR}

        with running() as running_loop:
            scans.reach(1)
            running_loop.nudge()
            scans.reach(2)

    def test_runs_another_pass_if_it_is_nudged_during_one(self, scans: Scans, settings):
        """Rule 12. Seen to fail with the nudge cleared after the scan instead of before it."""
        settings.OUTBOX = {"POLL_SECONDS": HOUR}
        entered, go_on = threading.Event(), threading.Event()

        def dawdle() -> None:
            entered.set()
            assert go_on.wait(60)

        scans.during = dawdle
        with running() as running_loop:
            assert entered.wait(60)
            running_loop.nudge()
            go_on.set()
            scans.reach(2)

    @pytest.mark.parametrize("error", [ValueError, BrokerUnavailable])
    def test_continues_after_a_pass_that_fails(
        self, scans: Scans, settings, error: type[Exception]
    ):
        """Seen to fail without the `except Exception` of `_relay`."""
        settings.OUTBOX = {"POLL_SECONDS": 0.01}

        def fail() -> None:
            if scans.number == 1:
                raise error

        scans.during = fail
        with running():
            scans.reach(3)

    def test_checks_whether_an_unavailable_broker_is_back_before_the_next_pass(
        self, scans: Scans, settings
    ):
        """Otherwise deliveries would be claimed and released repeatedly."""
        settings.OUTBOX = {"POLL_SECONDS": 0.01}
        asked: list[int] = []

        def is_there() -> bool:
            asked.append(scans.number)
            return len(asked) == 5

        def fail() -> None:
            if scans.number == 1:
                raise BrokerUnavailable

        transport = FakeTransport()
        transport.is_there = is_there
        scans.during = fail
        with running(transport):
            scans.reach(2)

        assert asked == [1] * 5


class Hung:
    """Replaces a thread that does not end, and records the time-out of the wait."""

    def __init__(self) -> None:
        self.waits: list[float] = []

    def join(self, timeout: float) -> None:
        self.waits.append(timeout)
        time.sleep(timeout)


class TestAStop:
    def test_waits_for_both_threads_as_long_as_for_one(self, monkeypatch: pytest.MonkeyPatch):
        """Seen to fail with a wait for each: a supervisor kills what takes twice as long."""
        monkeypatch.setattr(loop, "_STOP_SECONDS", 0.2)
        stopped, hung = relay_loop(), Hung()
        stopped._threads = [hung, hung]  # type: ignore[list-item]

        stopped.stop()

        assert len(hung.waits) == 2
        assert sum(hung.waits) <= 0.2


@pytest.mark.postgresql  # SQLite's test database is in memory, and gone with its connection
@pytest.mark.django_db(transaction=True)
class TestTheWaitForTheTurn:
    def test_keeps_no_connection_for_long(self, monkeypatch: pytest.MonkeyPatch):
        """Seen to fail with a wait that closes nothing: it may be dead when it is needed again."""
        monkeypatch.setattr(loop, "_WARM_SECONDS", 0.01)
        waiter, kept = relay_loop(), [object()]

        def wait() -> None:
            connections["default"].ensure_connection()
            kept[:] = [connections["default"]]
            waiter._wait_for_turn()
            waiter._turn.release()

        def is_closed() -> bool:
            return getattr(kept[0], "connection", kept) is None

        with waiter._turn:
            waiting = threading.Thread(target=wait)
            waiting.start()
            eventually(is_closed, "its connection is closed")
        waiting.join(60)
        assert not waiting.is_alive()


@pytest.mark.usefixtures("own_registry")
class TestAPassThatPublishesForLong:
    def test_stores_the_heartbeat_of_its_relay_meanwhile(self, monkeypatch: pytest.MonkeyPatch):
        """Failed: a relay with a slow broker was silent until the end of its pass."""
        for name in ("_written", "_started"):
            monkeypatch.setattr(heartbeat, name, {})
        beating: list[bool] = []

        def note(_message: Message) -> None:
            beating.append(Heartbeat.objects.filter(kind="relay", name="relay@host").exists())

        transport = FakeTransport()
        monkeypatch.setattr(transport, "dispatch", note)

        @subscribe("shops.Ordered", attempts=1)
        def count() -> None: ...

        outbox = Outbox()
        for _ in range(2):
            outbox.given("shops.Ordered", order_id=uuid4())

        inline = InlineTransport("relay@host", deliver_started)
        # With the test's own connection, which the protection from forks would close.
        made = RelayLoop("relay@host", transport=transport, inline=inline, around=nullcontext)
        made._relay(is_nudged=False)

        assert beating == [False, True]


@pytest.mark.usefixtures("own_registry")
class TestARelay:
    def test_runs_passes_until_nothing_is_due(self, settings):
        """Rule 12. Seen to fail without the `continue` in `relay`: the rest waits for the floor."""
        settings.OUTBOX = {"FAN_OUT": 2}

        @subscribe("shops.Ordered")
        def count() -> None: ...

        outbox = Outbox()
        for _ in range(7):
            outbox.given("shops.Ordered", order_id=uuid4())
        sent: list[Message] = []

        relay(publish=sent.append)

        assert sum(len(message.pairs) for message in sent) == 7
