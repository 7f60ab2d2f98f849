"""An ordered bulk handler starts its deliveries by one statement, and keeps the order of keys."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import partial
from uuid import uuid4

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from outbox import BulkDelivery, operations, subscribe
from outbox.deliveries import failpoints
from outbox.deliveries.key_locks import lock_ordered_keys
from outbox.deliveries.sync import sync_subscriptions
from outbox.models import Delivery, Event
from outbox.testing import Outbox
from outbox.transports.base import Message
from tests.outbox.drive import run_message, run_messages, run_pass, states
from tests.outbox.ordered import A, emit_numbers, start_beside_replay
from tests.threads import aside, in_thread, wait_until_blocked

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("own_registry", "no_nudge"),
]


class Exporter:
    """An ordered bulk handler that records the numbers of its calls. A call may wait."""

    def __init__(self, *, handler: str = "tests.export", events: str = "tests.Walked") -> None:
        self.calls: list[list[int]] = []
        self.is_running = threading.Event()
        self.may_end = threading.Event()
        self.may_end.set()

        @subscribe(events, name=handler, bulk=True, ordered=True, backoff_base=0)
        def export(deliveries: Sequence[BulkDelivery]) -> None:
            self.calls.append([one.event.payload["number"] for one in deliveries])
            self.is_running.set()
            assert self.may_end.wait(60)
            for one in deliveries:
                one.done()

        sync_subscriptions()

    @property
    def numbers(self) -> list[int]:
        """The numbers in the order of their calls."""
        return [number for call in self.calls for number in call]


@pytest.fixture
def exporter(own_registry: None, no_nudge: None) -> Exporter:
    return Exporter()


def emit_keys(number: int) -> None:
    for _ in range(number):
        emit_numbers(1, key=uuid4())


def send_blocked() -> list[Message]:
    """Send blocked deliveries, as if they had been released too early."""
    Delivery.objects.filter(state="blocked").update(state="pending", due_at=timezone.now())
    return run_pass()


class TestAStart:
    def test_blocks_a_delivery_behind_one_that_has_not_started(self, exporter: Exporter):
        emit_numbers(1, 2)
        run_pass()
        later = send_blocked()
        assert states() == ["sent", "sent"]

        run_messages(later)

        assert (exporter.calls, states()) == ([], ["sent", "blocked"])

    def test_starts_only_the_first_of_a_key_that_a_message_has_twice(self, exporter: Exporter):
        emit_numbers(1, 2)
        [first] = run_pass()
        [later] = send_blocked()
        both = Message(
            first.handler, first.queue, first.subscription, (*later.pairs, *first.pairs), False
        )

        run_message(both)

        assert exporter.calls == [[1]]
        Outbox().deliver_all()
        assert exporter.numbers == [1, 2]

    def test_blocks_a_delivery_behind_an_event_that_waits_for_its_fan_out(self, exporter: Exporter):
        emit_numbers(1, 2)
        first = Event.objects.order_by("seq")[0]
        Event.objects.filter(pk=first.pk).update(fanned_out_at=timezone.now())  # not yet seen
        messages = run_pass()
        Event.objects.filter(pk=first.pk).update(fanned_out_at=None)

        run_messages(messages)

        assert (exporter.calls, states()) == ([], ["blocked"])

    def test_does_not_wait_for_an_event_of_its_key_that_the_handler_does_not_get(
        self, exporter: Exporter
    ):
        emit_numbers(1, name="shops.Ordered")
        other = Event.objects.get()
        Event.objects.update(fanned_out_at=timezone.now())
        emit_numbers(2)
        messages = run_pass()
        Event.objects.filter(pk=other.pk).update(fanned_out_at=None)

        run_messages(messages)

        assert exporter.calls == [[2]]

    def test_does_not_wait_for_the_key_of_another_handler(self, exporter: Exporter):
        other = Exporter(handler="tests.other")
        emit_numbers(1)
        messages = {message.handler: message for message in run_pass()}
        emit_numbers(2)
        run_message(messages["tests.export"])
        later = [message for message in run_pass() if message.handler == "tests.export"]

        run_messages(later)

        assert (exporter.calls, other.calls) == ([[1], [2]], [])

    def test_costs_the_same_number_of_statements_for_one_key_and_for_many(self, exporter: Exporter):
        numbers = []
        for keys in (2, 40):
            emit_keys(keys)
            [message] = run_pass()
            with CaptureQueriesContext(connection) as statements:
                run_message(message)
            numbers.append(len(statements))

        assert [len(call) for call in exporter.calls] == [2, 40]
        assert numbers[0] == numbers[1]


@pytest.mark.postgresql
class TestAReplay:
    def replay(self) -> list[Message]:
        operations.replay(operations.Choice(states=("done",)), by="ann", reason="a test")
        return run_pass()

    @pytest.fixture(autouse=True)
    def one_is_done(self, exporter: Exporter) -> None:
        """Number 1 is done and can be replayed; number 2 is stored."""
        emit_numbers(1)
        run_messages(run_pass())
        exporter.calls.clear()
        exporter.is_running.clear()
        exporter.may_end.clear()
        emit_numbers(2)

    def test_does_not_run_during_a_later_delivery_of_its_key(self, exporter: Exporter):
        later = in_thread(partial(run_messages, run_pass()))
        assert exporter.is_running.wait(60)

        run_messages(self.replay())

        assert (states(), exporter.calls) == (["blocked", "sent"], [[2]])
        exporter.may_end.set()
        later()
        Outbox().deliver_all()
        assert exporter.numbers == [2, 1]

    def test_does_not_run_during_a_delivery_that_starts_at_the_same_time(self, exporter: Exporter):
        later = start_beside_replay(run_pass(), self.replay, is_running=exporter.is_running)
        assert exporter.calls == [[2]]
        exporter.may_end.set()
        later()
        Outbox().deliver_all()

        assert exporter.numbers == [2, 1]


@pytest.mark.postgresql
class TestTwoRelays:
    def test_keep_the_order_although_the_later_event_is_fanned_out_first(self, exporter: Exporter):
        emit_numbers(1, 2)
        first = Event.objects.order_by("seq")[0]

        with transaction.atomic():
            Event.objects.select_for_update().get(pk=first.pk)  # as a relay that fans it out
            aside(lambda: run_messages(run_pass()))
            assert (states(), exporter.calls) == (["blocked"], [])
        Delivery.objects.update(due_at=timezone.now())
        Outbox().deliver_all()

        assert exporter.numbers == [1, 2]


@pytest.mark.postgresql
class TestAStartOfOneKey:
    """A delivery that the UPDATE leaves starts alone, and locks its own key only."""

    def test_is_awaited_by_the_start_of_a_message(self, exporter: Exporter):
        emit_numbers(1)
        [message] = run_pass()

        with transaction.atomic():
            lock_ordered_keys({("tests.export", str(A))}, connection=connection)
            started = in_thread(partial(run_message, message))
            wait_until_blocked(1)
            assert exporter.calls == []
        started()

        assert exporter.calls == [[1]]


#: Other tests of the same server may have locks of their own.
_LOCKS = """
SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()"""


@pytest.mark.postgresql
class TestALargeMessage:
    def test_takes_one_lock_for_all_its_keys(self, exporter: Exporter):
        """A lock for each key of some large messages fills PostgreSQL's table of locks."""
        emit_keys(40)
        [message] = run_pass()
        locks: list[int] = []

        def count() -> None:
            with connection.cursor() as cursor:
                cursor.execute(_LOCKS)
                locks.append(cursor.fetchone()[0])

        with failpoints.armed(failpoints.BEFORE_START, count):
            run_message(message)

        assert locks == [1]
