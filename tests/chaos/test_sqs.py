"""Celery over Amazon SQS: a message that comes again, polling without nudges, the doctor.

The rules of test_fire.py run against SQS with TEST_BROKER=sqs, too.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.chaos.brokers import name_under_test
from tests.chaos.sqs import VISIBILITY as DEFAULT_VISIBILITY
from tests.chaos.sqs import Sqs
from tests.chaos.stack import Stack, running_stack
from tests.chaos.test_fire import QUEUES, assert_each_once, settle, strike

pytestmark = [
    pytest.mark.processes,
    pytest.mark.timeout(600),
    pytest.mark.skipif(name_under_test() != "sqs", reason="make test-sqs runs the tests of SQS"),
]

#: Seconds, longer than the lease of the proving ground.
VISIBILITY = 4
RECEIVED = re.compile(r"Task outbox\.deliver\[(\S+)\] received")
DONE = re.compile(r"Task outbox\.deliver\[(\S+)\] succeeded")


@contextmanager
def running_relay(folder: Path, *, visibility: int) -> Iterator[Stack]:
    """Yield a stack whose queues have this visibility timeout, in seconds."""
    broker = Sqs(folder / "broker", queues=["outbox", *QUEUES.split(",")], visibility=visibility)
    with running_stack(folder, settings="tests.chaos.settings", broker=broker) as stack:
        stack.start_relay()
        yield stack


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    """A relay over queues with a short visibility timeout."""
    with running_relay(tmp_path, visibility=VISIBILITY) as stack:
        yield stack


@pytest.fixture
def stack_with_usual_times(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stack]:
    """A relay with the default lease, over queues with the default visibility timeout.

    The relay sends messages for a quarter of a lease, and then logs that the broker is slow. With
    the short lease of the other tests a busy machine is slow enough for this.
    """
    monkeypatch.setenv("GROUND_LEASE", "60")
    with running_relay(tmp_path, visibility=DEFAULT_VISIBILITY) as stack:
        yield stack


def unfinished(log: str) -> set[str]:
    """Return the messages that a worker has received and not finished."""
    return set(RECEIVED.findall(log)) - set(DONE.findall(log))


class TestAMessageOfAKilledWorker:
    def test_comes_again_after_the_visibility_timeout_and_has_no_second_effect(self, stack: Stack):
        """State, token and receipt of the delivery each prevent the second effect."""
        stack.start_worker("doomed", queues=QUEUES)
        strike(stack, 2, "pause_until_resumed")
        stack.wait_until(lambda: unfinished(stack.log("doomed")), "a message is in hand")

        stack.kill("doomed")
        stack.resume_handlers()
        lost = unfinished(stack.log("doomed"))
        assert lost
        stack.start_worker("heir", queues=QUEUES)

        settle(stack)
        stack.wait_until(
            lambda: lost <= set(DONE.findall(stack.log("heir"))), "the lost messages come again"
        )
        assert_each_once(stack, 2)


class TestARelay:
    def test_polls_without_fanout_and_logs_no_problem(self, stack_with_usual_times: Stack):
        """Without the look for fanout: the worker of the relay asks for a queue, and ends."""
        stack = stack_with_usual_times
        stack.start_worker(queues=QUEUES)

        strike(stack, 40)

        settle(stack)
        assert_each_once(stack, 40)
        for name in ("relay", "worker"):
            assert not re.findall(r"^.* (?:WARNING|ERROR|CRITICAL) .*$", stack.log(name), re.M)
            assert "Traceback" not in stack.log(name)


class TestAMissingQueue:
    def test_is_reported_by_the_doctor(self, stack: Stack):
        assert isinstance(stack.broker, Sqs)
        stack.broker.client.delete_queue(QueueUrl=stack.broker.queue_url("ground.slow"))

        examined = stack.run_anyway("manage.py", "outbox", "doctor", "--json", "--timeout", "1")

        errors = [one["text"] for one in json.loads(examined.stdout) if one["severity"] == "error"]
        expected = "SQS does not return the attributes of the queue ground.slow: "
        assert [one for one in errors if one.startswith(expected)], errors


class TestAShortVisibilityTimeout:
    def test_is_reported_by_the_doctor_and_before_a_deploy(self, stack: Stack):
        stack.start_worker(queues=QUEUES)

        examined = stack.run_anyway("manage.py", "outbox", "doctor", "--json", "--timeout", "60")
        checked = stack.run_anyway("manage.py", "check", "--deploy", "--tag", "outbox")

        texts = [one["text"] for one in json.loads(examined.stdout) if one["part"] == "broker"]
        handler = "A message of ground.record may take 362 s (lease 2 s + 200 x time limit 1.8 s)."
        assert f"The queue ground has a visibility timeout of {VISIBILITY} s. {handler}" in texts
        assert "(outbox.E062)" in checked.stderr
        assert f"message of the queue ground again after {VISIBILITY} s." in checked.stderr
