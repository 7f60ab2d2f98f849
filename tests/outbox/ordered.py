"""An event, an ordered handler and drivers for the tests of order per key."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import partial
from uuid import UUID, uuid4

from outbox import DomainEvent, subscribe
from outbox.deliveries import failpoints
from outbox.deliveries.sync import sync_subscriptions
from outbox.testing import Outbox
from outbox.transports.base import Message
from tests.outbox.drive import run_messages
from tests.threads import in_thread, wait_until_blocked


class Walked(DomainEvent, key="order_id"):
    order_id: UUID
    number: int = 0


A, B = uuid4(), uuid4()


class Listener:
    """An ordered handler that records received events, and fails at the numbers in `failing`."""

    def __init__(self) -> None:
        self.received: list[tuple[UUID, int]] = []
        self.failing: dict[int, Exception] = {}

    def receive(self, order_id: UUID, number: int) -> None:
        if number in self.failing:
            raise self.failing[number]
        self.received.append((order_id, number))

    def subscribe(self, *events: str, **policy) -> None:
        def note(order_id: UUID, number: int) -> None:
            self.receive(order_id, number)

        policy = {"ordered": True, "backoff_base": 0, **policy}
        subscribe(*(events or ("tests.Walked",)), name="tests.note", **policy)(note)
        sync_subscriptions()


def start_beside_replay(
    messages: Sequence[Message],
    replay: Callable[[], Sequence[Message]],
    *,
    is_running: threading.Event,
) -> Callable[[], object]:
    """Start messages in a thread, and a replay while that start is not committed yet.

    Return once the handler runs and the replay has ended, with the function that joins the thread.
    """
    is_started, may_commit = threading.Event(), threading.Event()

    def pause() -> None:
        if threading.current_thread().name == "later":
            is_started.set()
            assert may_commit.wait(60)

    with failpoints.armed(failpoints.BEFORE_START, pause):
        later = in_thread(partial(run_messages, messages), name="later")
        assert is_started.wait(60)
        replayed = in_thread(partial(run_messages, replay()))
        wait_until_blocked(1)
        may_commit.set()
        assert is_running.wait(60)
        replayed()
    return later


def emit_numbers(*numbers: int, key: UUID = A, name: str = "tests.Walked") -> None:
    for number in numbers:
        Outbox().given(name, order_id=key, number=number)
