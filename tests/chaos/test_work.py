"""Processes of `outbox work` are stopped, killed and replaced; the database is cut off.

The other rules of delivery run without a broker in test_fire.py, with TEST_BROKER=none.
"""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path

import pytest

from tests.chaos.stack import Stack
from tests.chaos.test_fire import QUEUES, assert_each_once, settle, strike

pytestmark = [pytest.mark.processes, pytest.mark.timeout(600)]

STARTED = "SELECT count(*) FROM outbox_delivery WHERE started_token > 0 AND state <> 'done'"
DIED = "SELECT count(*) FROM outbox_attempt WHERE outcome = 'died'"


@pytest.fixture
def stack(local_ground: Stack) -> Stack:
    return local_ground


def wait_for_a_handler(stack: Stack) -> None:
    stack.wait_until(lambda: stack.value(STARTED) > 0, "a handler runs")


def send(stack: Stack, name: str, number: signal.Signals) -> None:
    """Send a signal to the process itself, and to none that it started, unless it has ended."""
    with suppress(ProcessLookupError):
        os.kill(stack.pid(name), number)


class TestAStop:
    @pytest.mark.parametrize("processes", [1, 2])
    def test_ends_what_runs_and_hands_back_what_waits(self, stack: Stack, processes: int):
        """Without the hand-back: what waits is due only after its lease."""
        stack.start_worker("old", queues=QUEUES, concurrency=processes)
        strike(stack, 2, "pause_in_transaction")
        wait_for_a_handler(stack)

        assert stack.stop("old") == 0

        held = "SELECT count(*) FROM outbox_delivery WHERE state = 'sent'"
        assert stack.value(held) == 0
        assert stack.value(DIED) == 0
        stack.start_worker("new", queues=QUEUES)
        settle(stack)
        assert_each_once(stack, 2)

    @pytest.mark.parametrize("processes", [1, 2])
    def test_ends_at_once_after_a_second_signal_and_leases_recover(
        self, stack: Stack, processes: int
    ):
        stack.start_worker("old", queues=QUEUES, concurrency=processes)
        strike(stack, 2, "pause_in_transaction")
        wait_for_a_handler(stack)

        send(stack, "old", signal.SIGTERM)
        send(stack, "old", signal.SIGINT)
        stack.wait_until(lambda: not stack.is_running("old"), "it has ended")

        stack.start_worker("new", queues=QUEUES)
        settle(stack)
        assert_each_once(stack, 2)

    def test_is_not_hurried_by_ctrl_c_in_a_terminal(self, stack: Stack):
        """SIGINT reaches every process at once. Without SIG_IGN it counts as a second signal."""
        stack.start_worker("old", queues=QUEUES, concurrency=2)
        strike(stack, 2, "pause_in_transaction")
        wait_for_a_handler(stack)

        stack.signal("old", signal.SIGINT)
        stack.wait_until(lambda: not stack.is_running("old"), "it has ended")

        assert stack.value(DIED) == 0
        assert stack.value("SELECT count(*) FROM outbox_delivery WHERE state = 'sent'") == 0


class TestASupervisor:
    def test_replaces_a_process_that_was_killed(self, stack: Stack):
        """Without the restart: nothing settles."""
        stack.start_worker(queues=QUEUES, concurrency=2)
        stack.wait_until(lambda: len(stack.children("worker")) == 2, "both work")

        before = set(stack.children("worker"))
        for pid in before:
            os.kill(pid, signal.SIGKILL)

        strike(stack, 10)
        settle(stack)
        assert_each_once(stack, 10)
        assert not before & set(stack.children("worker"))

    def test_that_is_killed_leaves_no_process_behind(self, stack: Stack):
        """Without the look at the parent: they work on, beside those of the next supervisor."""
        stack.start_worker("doomed", queues=QUEUES, concurrency=2)
        stack.wait_until(lambda: len(stack.children("doomed")) == 2, "both work")
        left = stack.children("doomed")

        send(stack, "doomed", signal.SIGKILL)

        stack.wait_until(lambda: not any(map(is_running, left)), "they have ended")


class TestTheDoctor:
    def test_finds_no_problem_while_a_process_works(self, stack: Stack):
        stack.start_worker(queues=f"outbox,{QUEUES}", concurrency=1)
        heartbeats = "SELECT count(*) FROM outbox_heartbeat WHERE kind IN ('worker', 'relay')"
        stack.wait_until(lambda: stack.value(heartbeats) == 2, "it beats")

        done = stack.run_anyway("manage.py", "outbox", "doctor", "--timeout", "60")

        assert done.returncode == 0, done.stdout
        assert "ERROR" not in done.stdout


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    return not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] != "Z"
