"""Who lives says so, with real processes; who does not is missed."""

from __future__ import annotations

import json

import pytest

from tests.chaos.stack import Stack

pytestmark = [pytest.mark.processes, pytest.mark.timeout(300)]

QUEUES = "ground,ground.outside,ground.slow"


def signs(ground: Stack, kind: str) -> list[tuple[str, list[str]]]:
    rows = ground.query("SELECT name, queues FROM outbox_heartbeat WHERE kind = ?", kind)
    return [(name, json.loads(told) if isinstance(told, str) else told) for name, told in rows]


@pytest.fixture(autouse=True)
def _nobody_was_seen(ground: Stack) -> None:
    ground.stop_all(but={"broker"})
    ground.query("DELETE FROM outbox_heartbeat")


class TestAHeartbeat:
    def test_comes_from_relay_workers_and_beat(self, ground: Stack):
        """Without the bootstep, the loop's or the task's part: that row never comes."""
        ground.start_relay()
        ground.start_worker(queues=QUEUES)
        ground.start_beat()

        ground.wait_until(lambda: signs(ground, "beat"), "beat's task came")
        ground.wait_until(lambda: len(signs(ground, "worker")) == 2, "both workers beat")

        (relay,) = signs(ground, "relay")
        assert relay[0].startswith("relay@")
        queues = dict(signs(ground, "worker"))
        assert queues[relay[0]] == ["outbox"]
        (worker,) = queues.keys() - {relay[0]}
        assert queues[worker] == sorted(QUEUES.split(","))

    def test_comes_from_a_relay_whose_broker_is_away(self, ground: Stack):
        ground.start_relay()
        ground.kill("broker")
        ground.query("DELETE FROM outbox_heartbeat")

        ground.manage("strike", "1")

        ground.wait_until(lambda: signs(ground, "relay"), "the relay beats on")
