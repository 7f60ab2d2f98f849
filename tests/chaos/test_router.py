"""A router moves the outbox to another database: every part of it follows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.chaos.brokers import NAMES, name_under_test
from tests.chaos.stack import Stack
from tests.databases import fresh_database

pytestmark = [
    pytest.mark.processes,
    pytest.mark.timeout(600),
    pytest.mark.skipif(name_under_test() != NAMES[0], reason="its stack has Valkey in any case"),
]

QUEUES = "ground,ground.outside,ground.slow"
NUMBER = 20


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    """Relay, worker and beat; the stack's own queries read the outbox's database."""
    with ExitStack() as cleanup:
        default, events = (cleanup.enter_context(fresh_database()) for _ in range(2))
        settings = "tests.chaos.routed_settings"
        stack = Stack(folder=tmp_path, database_url=events, settings=settings)
        stack.environment |= {"DATABASE_URL": default, "EVENTS_URL": events}
        cleanup.callback(stack.stop_all)
        stack.start_broker()
        for alias in ("default", "events"):
            stack.manage("migrate", "-v0", "--database", alias)
        stack.start_relay()
        stack.start_worker(queues=QUEUES)
        stack.start_beat()
        yield stack


class TestAnOutboxInAnotherDatabase:
    def test_is_relayed_delivered_and_examined_there(self, stack: Stack):
        """Failed: `emit()` stored events in one database, and the relay looked into another."""
        stack.manage("strike", str(NUMBER))

        owed = (
            "SELECT (SELECT count(*) FROM outbox_event WHERE fanned_out_at IS NULL)"
            " + (SELECT count(*) FROM outbox_delivery WHERE state <> 'done')"
        )
        stack.wait_until(lambda: stack.value(owed) == 0, "everything is delivered")
        assert stack.value("SELECT count(*) FROM outbox_delivery WHERE state = 'done'") >= NUMBER
        beats = "SELECT count(DISTINCT kind) FROM outbox_heartbeat"
        stack.wait_until(lambda: stack.value(beats) >= 3, "relay, worker and beat beat there")

        self.is_seen_by_the_commands(stack)
        self.is_operated_on(stack)

    def is_seen_by_the_commands(self, stack: Stack) -> None:
        done = stack.run_anyway("manage.py", "outbox", "doctor", "--json", "--timeout", "60")
        found = json.loads(done.stdout)
        assert not [one for one in found if one["severity"] == "error"], found
        handlers = json.loads(stack.manage("outbox", "status", "--json"))["handlers"]
        assert {one["handler"] for one in handlers} >= {"ground.record", "ground.call_outside"}
        key = stack.value("SELECT key FROM outbox_event LIMIT 1")
        assert "ground.record" in stack.manage("outbox", "why", str(key), "--all")

    def is_operated_on(self, stack: Stack) -> None:
        stack.manage("outbox", "pause", "ground.record", "--reason", "a test")
        assert stack.value("SELECT count(*) FROM outbox_subscription WHERE paused_at IS NOT NULL")
        stack.manage("outbox", "resume", "ground.record")
        stack.query("UPDATE outbox_event SET emitted_at = ?", "2020-01-01 00:00:00")
        stack.manage("outbox", "prune", "--older-than", "1d")
        assert stack.value("SELECT count(*) FROM outbox_event") == 0
