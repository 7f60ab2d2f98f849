"""`manage.py outbox relay` as a process: passes, nudges and signals."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from kombu import Connection, Producer

from outbox.transports.celery_broker import EXCHANGE
from tests.chaos.stack import Stack, running_stack
from tests.closed_port import port_of_nobody

SETTINGS = """
from tests.chaos.settings import *

# Nothing but a nudge wakes this relay a second time.
OUTBOX = {**OUTBOX, "POLL_SECONDS": 3600}
"""


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A broker and a migrated database with the proving ground's handlers, and no relay."""
    folder: Path = tmp_path_factory.mktemp("relay")
    (folder / "patient_settings.py").write_text(SETTINGS)
    with running_stack(folder, settings="tests.chaos.settings") as stack:
        stack.environment |= {
            "DJANGO_SETTINGS_MODULE": "patient_settings",
            "PYTHONPATH": str(folder),
        }
        yield stack


def nudge(stack: Stack) -> None:
    with Connection(stack.redis_url) as connection:
        Producer(connection, exchange=EXCHANGE).publish({}, serializer="json")


def unanswered_url() -> str:
    """A broker's address at which nothing listens."""
    return f"redis://127.0.0.1:{port_of_nobody()}/0"


RELAY = [sys.executable, "manage.py", "outbox", "relay"]


@pytest.mark.processes
@pytest.mark.timeout(300)
class TestRelay:
    @pytest.fixture(autouse=True)
    def _clean(self, stack: Stack) -> Iterator[None]:
        yield
        stack.query("DELETE FROM outbox_delivery")
        stack.query("DELETE FROM outbox_event")

    def sent(self, stack: Stack) -> int:
        return int(stack.value("SELECT count(*) FROM outbox_delivery WHERE state = 'sent'"))

    def is_sent_on_a_nudge(self, stack: Stack) -> bool:
        nudge(stack)
        return self.sent(stack) == 2

    def start(self, stack: Stack, name: str, **environment: str) -> None:
        stack.start(name, RELAY, **environment)
        stack.wait_until(lambda: "The relay runs." in stack.log(name), "the relay runs")

    def test_sends_due_deliveries_once(self, stack: Stack):
        stack.manage("strike", "3")

        said = stack.manage("outbox", "relay", "--once")

        assert said == "4 messages sent.\n"  # three alone, and a batch of three
        assert self.sent(stack) == 6

    def test_fails_with_a_sentence_while_the_broker_is_down(self, stack: Stack):
        stack.manage("strike", "1")

        stack.start("once", [*RELAY, "--once"], REDIS_URL=unanswered_url())
        stack.wait_until(lambda: not stack.is_running("once"), "the command ends")

        assert stack.stop("once") == 1
        assert "The broker accepted no message" in stack.log("once")
        assert "Traceback" not in stack.log("once")
        assert self.sent(stack) == 0

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_runs_on_nudges_until_it_gets_a_signal(self, stack: Stack, number: signal.Signals):
        name = f"relay-{number.name}"
        self.start(stack, name)
        stack.manage("strike", "1")

        stack.wait_until(lambda: self.is_sent_on_a_nudge(stack), "a nudge wakes the relay")
        stack.signal(name, number)
        stack.wait_until(lambda: not stack.is_running(name), "the relay ends")

        assert stack.stop(name) == 0
        assert "The relay has stopped." in stack.log(name)
        assert "Traceback" not in stack.log(name)

    def test_stops_on_a_signal_while_the_broker_is_down(self, stack: Stack):
        self.start(stack, "lonely", REDIS_URL=unanswered_url())

        assert stack.stop("lonely") == 0
        assert "The relay has stopped." in stack.log("lonely")
