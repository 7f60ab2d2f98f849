"""Heartbeats of real processes, and the doctor's report of missing ones.

The canary and remote control are matters of the broker, so most of these tests run on SQLite only.
`tests/outbox/test_doctor.py` runs the doctor's queries on both databases.
"""

from __future__ import annotations

import json

import pytest

from tests.chaos.brokers import name_under_test
from tests.chaos.stack import Stack

pytestmark = [pytest.mark.processes, pytest.mark.timeout(600)]

SEVERITIES = ["ok", "warning", "error"]
QUEUES = "ground,ground.outside,ground.slow"


def heartbeats(ground: Stack, kind: str) -> list[tuple[str, list[str]]]:
    rows = ground.query("SELECT name, queues FROM outbox_heartbeat WHERE kind = ?", kind)
    return [
        (name, json.loads(found_rows) if isinstance(found_rows, str) else found_rows)
        for name, found_rows in rows
    ]


def has_come(ground: Stack) -> bool:
    """Return whether the task of beat has run; its process has a heartbeat of another name."""
    return "beat" in dict(heartbeats(ground, "beat"))


@pytest.fixture(autouse=True)
def _no_heartbeats(ground: Stack) -> None:
    ground.stop_all(but={"broker"})
    if name_under_test() == "sqs":  # the open request of a killed worker would take a canary
        ground.kill("broker")
        ground.start_broker()
    ground.query("DELETE FROM outbox_heartbeat")


@pytest.mark.once
class TestAHeartbeat:
    def test_is_written_by_relay_workers_and_beat(self, ground: Stack):
        """Without the bootstep, the loop's part or the task: that row is never written."""
        ground.start_relay()
        ground.start_worker(queues=QUEUES)
        ground.start_beat()

        ground.wait_until(lambda: has_come(ground), "beat's task came")
        ground.wait_until(lambda: len(heartbeats(ground, "worker")) == 2, "both workers beat")
        ground.wait_until(lambda: heartbeats(ground, "relay"), "the relay beats")

        (relay,) = heartbeats(ground, "relay")
        assert relay[0].startswith("relay@")
        queues = dict(heartbeats(ground, "worker"))
        assert queues[relay[0]] == ["outbox"]
        (worker,) = queues.keys() - {relay[0]}
        assert queues[worker] == sorted(QUEUES.split(","))

    @pytest.mark.own_broker
    def test_is_written_by_a_relay_whose_broker_is_unavailable(self, ground: Stack):
        ground.start_relay()
        ground.kill("broker")
        ground.query("DELETE FROM outbox_heartbeat")

        ground.manage("strike", "1")

        ground.wait_until(lambda: heartbeats(ground, "relay"), "the relay beats on")


def examined(ground: Stack, timeout: str, *options: str) -> dict[str, dict[str, str]]:
    """Return the worst finding of the doctor for each part."""
    command = ["manage.py", "outbox", "doctor", "--json", "--timeout", timeout]
    done = ground.run_anyway(*command, *options)
    assert done.stdout, done.stderr
    # What other tests have deleted may not be vacuumed yet.
    found_rows = [one for one in json.loads(done.stdout) if "dead rows" not in one["text"]]
    found = sorted(found_rows, key=lambda one: SEVERITIES.index(one["severity"]))
    worst = {one["part"]: one for one in found}
    is_well = all(one["severity"] != "error" for one in found)
    assert done.returncode == (0 if is_well else 1)
    return worst


@pytest.mark.once
@pytest.mark.own_broker
class TestBeat:
    def test_sends_its_tasks_again_after_a_restart_of_the_broker(self, ground: Stack):
        """With RabbitMQ and `task_publish_retry` false: each later task fails in the same way."""
        ground.start_relay()
        ground.start_beat()
        ground.wait_until(lambda: has_come(ground), "beat's task came")

        ground.kill("broker")
        ground.start_broker()
        ground.query("DELETE FROM outbox_heartbeat")

        ground.wait_until(lambda: has_come(ground), "beat's task came again")


def let_a_delivery_wait(ground: Stack) -> None:
    """Let a delivery of `ground.slow` wait for a worker, as if sent again after many leases."""
    ground.manage("strike", "1", "--of=Spared")
    slow = "SELECT id FROM outbox_subscription WHERE queue = ?"
    sent = f"state = 'sent' AND subscription_id IN ({slow})"
    count = f"SELECT count(*) FROM outbox_delivery WHERE {sent}"
    ground.wait_until(lambda: ground.value(count, "ground.slow"), "the delivery is sent")
    update = f"UPDATE outbox_delivery SET token = started_token + 1000 WHERE {sent}"
    ground.query(update, "ground.slow")
    # It has waited since the fan-out of its event, at the longest.
    ground.query("UPDATE outbox_event SET fanned_out_at = '2026-01-01 00:00:00'")


class TestTheDoctor:
    def test_finds_no_problem_in_a_healthy_shop(self, ground: Stack):
        ground.start_relay()
        ground.start_worker(queues=QUEUES)
        ground.start_beat()
        ground.wait_until(lambda: has_come(ground), "beat's task came")
        ground.wait_until(lambda: len(heartbeats(ground, "worker")) == 2, "both workers beat")
        ground.wait_until(lambda: heartbeats(ground, "relay"), "the relay beats")

        found = examined(ground, "60")

        assert {part: one["severity"] for part, one in found.items()} == dict.fromkeys(found, "ok")
        assert {f"queue {name}" for name in ("outbox", *QUEUES.split(","))} <= found.keys()
        assert not ground.query("SELECT * FROM outbox_heartbeat WHERE kind = 'canary'")

    @pytest.mark.once
    @pytest.mark.skipif(name_under_test() == "sqs", reason="SQS has no fanout for remote control")
    def test_finds_a_running_worker_that_no_longer_consumes(self, ground: Stack):
        """Its heartbeat is written. Only the canary detects it."""
        ground.start_relay()
        ground.start_worker(queues=QUEUES)
        ground.wait_until(lambda: len(heartbeats(ground, "worker")) == 2, "the workers beat")
        (worker,) = (
            name for name, queues in heartbeats(ground, "worker") if "ground.slow" in queues
        )
        self.control(ground, worker, "cancel_consumer", "ground.slow")
        let_a_delivery_wait(ground)

        found = examined(ground, "30")
        self.control(ground, worker, "add_consumer", "ground.slow")

        assert found["queue ground.slow"]["severity"] == "error"
        assert found["queue ground"]["severity"] == "ok"

    @pytest.mark.once
    def test_names_a_queue_without_a_worker(self, ground: Stack):
        ground.start_relay()
        ground.start_worker(queues="ground,ground.outside")
        let_a_delivery_wait(ground)

        found = examined(ground, "30")

        assert (
            found["queue ground.slow"]["text"] == "The canary was not answered: it has no worker."
        )
        assert found["queue ground"]["severity"] == "ok"

    @pytest.mark.once
    def test_names_no_queue_that_needs_no_worker(self, ground: Stack):
        ground.query("DELETE FROM outbox_delivery WHERE state <> 'done'")
        ground.start_relay()
        ground.start_worker(queues="ground,ground.outside")

        found = examined(ground, "30")

        assert found["queue ground.slow"]["severity"] == "ok"
        assert "needs none" in found["queue ground.slow"]["text"]

    def control(self, ground: Stack, worker: str, *order: str) -> None:
        options = ["--timeout", "60", "--destination", worker]
        ground.run("-m", "celery", "-A", "shop", "control", *options, *order)

    @pytest.mark.own_broker
    def test_works_without_a_broker(self, ground: Stack):
        ground.kill("broker")

        found = examined(ground, "1")

        assert found["broker"]["severity"] == "error"
        assert found["relay"]["severity"] == "error"
        assert found["database"]["severity"] == "ok"


@pytest.mark.once
class TestAProbe:
    def test_accepts_a_running_worker_and_reports_a_missing_one(self, ground: Stack):
        ground.start_relay()
        ground.start_worker(queues=QUEUES)
        ground.wait_until(lambda: len(heartbeats(ground, "worker")) == 2, "the workers beat")
        (name,) = (name for name, queues in heartbeats(ground, "worker") if "ground" in queues)

        well = examined(ground, "60", "--queue", "ground", "--worker", name)
        relay = examined(ground, "60", "--queue", "outbox")
        ground.stop_all(but={"broker"})
        gone = examined(ground, "5", "--queue", "ground", "--worker", name)

        assert {part: one["severity"] for part, one in well.items()} == {
            "queue ground": "ok",
            f"worker {name}": "ok",
        }
        assert {part: one["severity"] for part, one in relay.items()} == {
            "queue outbox": "ok",
            "relay": "ok",
        }
        assert gone["queue ground"]["severity"] == "error"
