"""Conditions that affect only speed on PostgreSQL: long transactions, a pooler, more relays.

Each test says what was taken away to see it fail.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.chaos.pgbouncer import PROGRAM, SERVER_CONNECTIONS, PgBouncer
from tests.chaos.stack import OBSERVER, Stack
from tests.chaos.test_fire import QUEUES, assert_each_once, settle

pytestmark = [pytest.mark.postgresql, pytest.mark.processes, pytest.mark.timeout(600)]

KEYS = 3


def strike_at_once(ground: Stack, number: int) -> None:
    ground.manage("strike", str(number), f"--keys={KEYS}")


def assert_each_once_and_in_order(ground: Stack, number: int, **more: int) -> None:
    assert_each_once(ground, number, follow=number, **more)
    followed = ground.query(
        "SELECT e.key, e.seq FROM ground_effect g JOIN outbox_event e ON e.id = g.event_id "
        "WHERE g.handler = 'follow' ORDER BY g.id"
    )
    by_key = defaultdict(list)
    for key, seq in followed:
        by_key[key].append(seq)
    assert all(seqs == sorted(seqs) for seqs in by_key.values()), by_key


class TestALongTransactionOfAnotherClient:
    @pytest.fixture(autouse=True)
    def _held_open(self, ground: Stack) -> Iterator[None]:
        """It has a snapshot from before the first event, and has written."""
        ground.query("CREATE TABLE IF NOT EXISTS elsewhere (number int)")
        with psycopg.connect(ground.database_url) as held:
            held.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            held.execute("SELECT count(*) FROM outbox_event")
            held.execute("INSERT INTO elsewhere VALUES (1)")
            yield
            assert held.execute("SELECT count(*) FROM outbox_event").fetchone() == (0,)

    def test_delays_no_delivery(self, ground: Stack):
        """With events claimed below the oldest open transaction (pg_snapshot_xmin): none comes."""
        ground.start_relay()
        ground.start_worker(queues=QUEUES)

        strike_at_once(ground, 60)

        settle(ground)
        assert_each_once_and_in_order(ground, 60)


@pytest.mark.skipif(PROGRAM is None, reason="PgBouncer is not here: apt-get install pgbouncer")
class TestPgBouncerInTransactionMode:
    @pytest.fixture(autouse=True)
    def _through_it(self, ground: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Processes that are started from now on connect through PgBouncer."""
        ground.stop_all(but={"broker"})
        bouncer = PgBouncer(tmp_path / "pgbouncer", database_url=ground.database_url)
        ground.start("pgbouncer", bouncer.command)
        ground.wait_until(lambda: "process up" in ground.log("pgbouncer"), "PgBouncer listens")
        monkeypatch.setitem(ground.environment, "DATABASE_URL", bouncer.url)
        monkeypatch.setitem(ground.environment, "BEHIND_PGBOUNCER", "true")

    def test_keeps_all_effects(self, ground: Stack):
        """With session locks for keys: the next client of the connection waits."""
        ground.manage("migrate", "-v0")
        ground.start_relay("pooled-relay-1")
        ground.start_relay("pooled-relay-2")
        ground.start_worker("pooled-worker", queues=QUEUES)

        strike_at_once(ground, 60)
        most = self.server_connections(ground)  # PgBouncer keeps those that it has opened
        while ground.has_backlog():
            most = max(most, self.server_connections(ground))

        assert_each_once_and_in_order(ground, 60)
        assert 0 < most <= SERVER_CONNECTIONS, "someone went around it"
        if ground.is_local:
            polls = "passes on no notification, as behind a pooler in transaction mode"
            ground.wait_until(lambda: polls in ground.log("pooled-worker"), "it found that out")

    def test_permits_commands_with_server_side_cursors(self, ground: Stack):
        """Without BEHIND_PGBOUNCER: a cursor is lost with its connection."""
        ground.start_worker("pooled-worker", queues=QUEUES)
        ground.manage("strike", "3000", "--queued")
        ground.start_relay("pooled-relay")

        read = ground.manage("outbox", "rehearse")

        assert "owed rows read. This code can decode all of them." in read

    def server_connections(self, ground: Stack) -> int:
        """Count the server's connections without those of autovacuum and of this test."""
        clients = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'"
        others = "datname = current_database() AND application_name <> ?"
        return int(ground.value(f"{clients} AND {others}", OBSERVER))


class TestAnyNumberOfRelays:
    def test_has_the_same_effects(self, ground: Stack):
        """Without the locks in `open_passes`: windows are exceeded."""
        ground.stop_relays()
        ground.start_worker(queues=QUEUES)
        before = self.deadlocks(ground)
        for turn, relays in enumerate((1, 2, 8), start=1):
            self.start_relays(ground, relays)
            ground.manage("strike", "300", "--queued")
            strike_at_once(ground, 60)

            while ground.has_backlog():
                assert self.beyond_their_window(ground) == []
            assert_each_once_and_in_order(ground, 60 * turn, dawdle=300 * turn)
        assert self.deadlocks(ground) == before
        assert "deadlock detected" not in ground.all_logs().lower()

    def start_relays(self, ground: Stack, number: int) -> None:
        names = [f"relay-{one}" for one in range(number)]
        with ThreadPoolExecutor() as starters:
            list(starters.map(ground.start_relay, names))

    def beyond_their_window(self, ground: Stack) -> list[tuple[Any, ...]]:
        return ground.query(
            'SELECT s.handler, s."window", count(*) FROM outbox_subscription s '
            "JOIN outbox_delivery d ON d.subscription_id = s.id "
            "WHERE d.state = 'sent' AND d.due_at > now() "
            'GROUP BY s.id HAVING count(*) > s."window"'
        )

    def deadlocks(self, ground: Stack) -> int:
        """Return the number of deadlocks that PostgreSQL has ended, including retried ones."""
        counted = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
        return int(ground.value(counted))
