"""A real database server stops while relay and workers run, and starts again."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from shop.postgres import EmbeddedPostgres
from tests.chaos.stack import Stack
from tests.databases import own_postgresql

pytestmark = [pytest.mark.postgresql, pytest.mark.processes, pytest.mark.timeout(600)]

NUMBER = 60


@pytest.fixture
def server() -> Iterator[EmbeddedPostgres]:
    with own_postgresql() as server:
        yield server


@pytest.fixture
def stack(server: EmbeddedPostgres, tmp_path: Path) -> Iterator[Stack]:
    """Relay and workers on a database server of their own; a lease lasts two seconds."""
    with ExitStack() as cleanup:
        settings = "tests.chaos.settings"
        stack = Stack(folder=tmp_path, database_url=server.start(), settings=settings)
        cleanup.callback(stack.stop_all)
        stack.start_broker()
        stack.manage("migrate", "-v0")
        stack.start_relay()
        stack.start_worker(queues="ground.slow", GROUND_DAWDLE="0.4")
        yield stack


def some_have_started(stack: Stack) -> bool:
    started = "SELECT count(*) FROM outbox_delivery WHERE state = 'sent' AND started_token > 0"
    return bool(stack.value(started))


class TestADatabaseServer:
    def test_that_stops_uses_up_no_single_attempt(self, stack: Stack, server: EmbeddedPostgres):
        """Rule 9. Failed, with dead deliveries, while the wait for the database was bounded.

        It stops, is killed, and is unavailable for longer than the leases.
        """
        stack.manage("strike", str(NUMBER), "--of=Spared")

        for seconds, number in ((2, signal.SIGINT), (2, signal.SIGKILL), (6, signal.SIGINT)):
            stack.wait_until(lambda: some_have_started(stack), "a handler runs")
            self.stop(server, number)
            time.sleep(seconds)
            server.start()

        stack.wait_until(lambda: self.is_settled(stack), "everything is delivered")
        effects = stack.query("SELECT event_id, count(*) FROM ground_effect GROUP BY 1")
        assert len(effects) == NUMBER
        assert {count for _, count in effects} == {1}
        assert stack.value("SELECT max(attempts) FROM outbox_delivery") == 1
        outcomes = {outcome for (outcome,) in stack.query("SELECT outcome FROM outbox_attempt")}
        assert outcomes <= {"outage", "database"}
        for name in ("relay", "worker"):
            assert "cannot be reached; waiting" in stack.log(name)

    def is_settled(self, stack: Stack) -> bool:
        states = stack.query("SELECT state, count(*) FROM outbox_delivery GROUP BY state")
        assert "dead" not in dict(states)
        return states == [("done", NUMBER)]

    def stop(self, server: EmbeddedPostgres, number: signal.Signals) -> None:
        if number == signal.SIGKILL and server.pid:
            with suppress(ProcessLookupError):
                os.kill(server.pid, number)
        server.stop()
