"""A short run of sinks and sources under faults, with a fixed seed. Long runs are manual.

The sabotage shows that a run can fail.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from tests.chaos.brokers import NAMES as BROKERS
from tests.chaos.brokers import name_under_test
from tests.chaos.edges.faults import EDGES, GAPS
from tests.chaos.edges.names import SOURCES
from tests.chaos.edges.systems import ALL
from tests.chaos.schedule import schedule
from tests.chaos.stack import ROOT
from tests.databases import kind_under_test

pytestmark = [
    pytest.mark.processes,
    pytest.mark.timeout(600),
    pytest.mark.skipif(name_under_test() != BROKERS[0], reason="it runs with Valkey for Celery"),
]

#: Faults of each kind that end soon.
SOME = (
    "kill_pool_child,kill_receiver,crash_after_store,crash_after_receipt,third_receiver,poison,"
    "kill_redis,freeze_kafka,freeze_nats,lost_nats,partial_aws,partial_amqp,throttled_redis,"
    "expired_aws,expired_nats,late_http,double_kafka"
)


def chaos(*arguments: str) -> tuple[int, dict[str, Any], str]:
    """Run it; return its exit code, its last line, and all that it printed."""
    command = [sys.executable, "-m", "tests.chaos", "--edges", "--database", kind_under_test()]
    done = subprocess.run([*command, *arguments], cwd=ROOT, capture_output=True, text=True)
    printed = done.stdout + done.stderr
    last = (done.stdout.splitlines() or [""])[-1]
    assert last.startswith("{"), printed
    return done.returncode, json.loads(last), printed


class TestSinksAndSourcesUnderFaults:
    def test_lose_nothing_and_keep_ids_and_order(self):
        code, result, printed = chaos("--seconds", "20", "--seed", "7", "--faults", SOME)

        assert code == 0, printed
        assert result["lost"] == result["duplicated"] == result["out_of_order"] == 0
        assert min(result["events"], result["messages"], result["kills"]) > 0, printed
        assert {"kafka", "aws", "nats", "redis", "http"} <= set(result["systems"]), printed


@pytest.mark.once
class TestASabotagedRun:
    def test_is_detected_in_both_directions(self):
        parts = ("--systems", "redis,nats", "--faults", "throttled_redis,expired_redis")
        options = ("--seconds", "10", "--seed", "7", *parts)

        code, result, printed = chaos(*options, "--sabotage", "unacknowledged,undeduplicated")

        assert code == 1, printed
        assert result["lost"] > 0, printed
        assert result["duplicated"] > 0, printed
        assert "make chaos ARGS=" in printed


@pytest.mark.once
class TestTheFaultsAtTheEdges:
    def test_are_all_in_a_long_schedule(self):
        kinds = EDGES.chosen("", database="postgresql")

        acts = schedule(seed=7, seconds=900, kinds=kinds, gaps=GAPS)

        assert {act.fault for act in acts} == kinds.keys()

    def test_distort_the_answers_of_each_system(self):
        distorted = {name.rpartition("_")[2] for name in EDGES.groups["late"]}

        assert distorted == {system.name for system in ALL}

    def test_have_a_source_for_each_event(self):
        assert len(SOURCES) == len(set(SOURCES))
