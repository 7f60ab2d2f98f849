"""The relay's loop during an outage of the database, and the grace for leases after it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
import time_machine
from django.db import connection, connections
from django.db.models import F
from django.utils import timezone

from outbox import fork_safety, subscribe
from outbox.deliveries import heartbeat, transient_errors
from outbox.models import Delivery, Heartbeat
from outbox.relay import backlog, passes
from outbox.testing import Outbox
from tests.link import Link
from tests.outbox.drive import outcomes, run_pass, states_and_attempts
from tests.outbox.outages import LostAnswer, Outage, expire_leases, new_message
from tests.outbox.relays import relay_loop
from tests.processes import eventually
from tests.threads import in_thread

pytestmark = [
    pytest.mark.postgresql,
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("own_registry", "no_nudge", "short_waits"),
]


@pytest.fixture
def cut_off(monkeypatch: pytest.MonkeyPatch) -> Iterator[Link]:
    """The network link of all other threads to the database."""
    settings = dict(connection.settings_dict)
    with Link((settings["HOST"], int(settings["PORT"]))) as link:
        through_it = {**settings, "HOST": "127.0.0.1", "PORT": link.port}
        monkeypatch.setitem(connections.settings, "default", through_it)
        yield link
        link.mend()


class TestALoopThatIsStoppedDuringAnOutage:
    def test_stops_waiting(self, cut_off: Link, caplog: pytest.LogCaptureFixture):
        """Failed, RecursionError, while a wait that was given up counted as the outage's end."""
        Outbox()
        running = relay_loop()
        running.start()
        cut_off.cut()
        running.nudge()
        eventually(lambda: "cannot be reached; waiting" in caplog.text, "an outage")

        running.stop()

        assert "RecursionError" not in caplog.text
        assert caplog.text.count("waits no longer for the database") == 1


class TestAnInlineDeliveryWhoseCommitIsNotAnswered:
    def test_uses_up_no_attempt(self, outage: Outage, lost_answer: LostAnswer):
        """Another host counted a crash. Failed while it was not withdrawn."""
        outage.meanwhile = expire_leases
        runs = []

        @subscribe("tests.Counted", attempts=1, inline=True)
        def count() -> None:
            runs.append(1)

        Outbox().given("tests.Counted", order_id=uuid4())
        lost_answer.then = outage
        running = relay_loop()

        running._relay(is_nudged=False)

        assert running._inline.started is None
        assert (runs, states_and_attempts(), outcomes()) == ([], [("pending", 0)], ["outage"])


class TestAnOutageBesideASecondDatabaseOnSqlite:
    def test_lets_the_process_fork(
        self,
        cut_off: Link,
        monkeypatch: pytest.MonkeyPatch,
        tmp_path: Any,
        caplog: pytest.LogCaptureFixture,
    ):
        """Failed: os.fork() waited for the end of the outage."""
        local = {
            **connection.settings_dict,
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": str(tmp_path / "local.sqlite3"),
            "OPTIONS": {},
        }
        monkeypatch.setitem(connections.settings, "local", local)
        running = relay_loop()
        cut_off.cut()
        access = transient_errors.DatabaseAccess("default")
        waiting = in_thread(lambda: running._recover(access))
        try:
            eventually(lambda: "cannot be reached; waiting" in caplog.text, "an outage")
            may_fork = fork_safety._using.acquire(timeout=60)  # what each os.fork() does first
            if may_fork:
                fork_safety._using.release()
        finally:
            cut_off.mend()
            waiting()
            if hasattr(connections._connections, "local"):  # type: ignore[attr-defined]
                del connections["local"]

        assert may_fork


class TestTheGraceAfterAnOutage:
    def test_of_one_unstable_host_does_not_delay_all_others(self):
        """A host loses the database every eight seconds, and a worker of another one has died.

        Failed, for as long as that went on, while each outage extended the one before.
        """

        @subscribe("tests.Counted", attempts=5)
        def count() -> None: ...

        new_message()
        start = timezone.now()
        with time_machine.travel(start, tick=False) as traveller:
            _start_all(worker="dead@host", at=start, until=start + timedelta(seconds=60))
            for _ in range(20):
                traveller.shift(8)
                heartbeat.record_outage(0.3, using="default")
                traveller.shift(0.5)
                run_pass()

        assert outcomes() == ["died"]

    def test_covers_leases_that_expired_in_the_longest_reported_outage(self):
        """A short report of one host does not shorten the long one of another."""

        @subscribe("tests.Counted", attempts=1)
        def count() -> None: ...

        new_message()
        now = timezone.now()
        _start_all(worker="w1", at=now, until=now - timedelta(seconds=60))
        in_thread(lambda: heartbeat.record_outage(100.0, using="default"))()
        heartbeat.record_outage(0.1, using="default")

        run_pass()

        assert states_and_attempts() == [("sent", 1)]
        assert Heartbeat.objects.filter(kind="outage").count() == 2

    def test_begins_with_a_pass_whose_statement_hung(self, monkeypatch: pytest.MonkeyPatch):
        """No connection breaks if the server hangs. Only its answer is late."""

        @subscribe("tests.Counted", attempts=1)
        def count() -> None: ...

        new_message()
        now = timezone.now()
        _start_all(worker="w1", at=now, until=now)
        monkeypatch.setattr(passes, "HUNG_SECONDS", 0.2)
        lock: Any = backlog.lock_backlog

        def lock_slowly(*arguments: Any, **options: Any) -> Any:
            time.sleep(0.3)
            return lock(*arguments, **options)

        monkeypatch.setattr(passes, "lock_backlog", lock_slowly)

        run_pass()

        assert states_and_attempts() == [("sent", 1)]


def _start_all(*, worker: str, at: Any, until: Any) -> None:
    Delivery.objects.update(
        started_token=F("token"), attempts=1, started_at=at, worker=worker, due_at=until
    )
