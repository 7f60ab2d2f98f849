"""Publishing the messages of a pass: a broker that refuses some or all of them, or is slow."""

from __future__ import annotations

from collections import Counter
from random import Random
from types import SimpleNamespace

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from outbox import DomainEvent, emit, subscribe
from outbox.deliveries import shares
from outbox.deliveries.sync import sync_subscriptions
from outbox.models import Attempt, Delivery, Subscription
from outbox.relay import publishing
from outbox.relay.passes import relay, relay_pass
from outbox.relay.publishing import BrokerUnavailable
from outbox.transports.base import Message, QueueUnavailable
from outbox.transports.inline import InlineTransport
from outbox.worker.delivery import deliver_started
from tests.outbox.drive import emit_events, run_messages, run_pass

pytestmark = pytest.mark.usefixtures("own_registry")


class TestABrokerThatRefusesAllMessages:
    def test_loses_no_delivery(self):
        @subscribe("tests.Ordered")
        def count() -> None: ...

        emit_events("tests.Ordered", 3)

        def refuse(message: Message) -> None:
            raise ConnectionError("refused")

        with pytest.raises(BrokerUnavailable, match="ConnectionError: refused"):
            relay_pass(publish=refuse)

        assert set(Delivery.objects.values_list("state", "attempts")) == {("pending", 0)}
        assert "the broker refused its message" in Delivery.objects.all()[0].note

    def test_costs_one_statement_for_each_token_regardless_of_the_number_claimed(self):
        """Seen to fail with one for each delivery, and with one for each message."""

        @subscribe("tests.Ordered", batch=2)
        def count() -> None: ...

        def refuse(message: Message) -> None:
            raise ConnectionError("refused")

        emit_events("tests.Ordered", 6)
        with CaptureQueriesContext(connection) as queries, pytest.raises(BrokerUnavailable):
            relay_pass(publish=refuse)

        assert len([one for one in queries if "refused its message" in one["sql"]]) == 1
        assert set(Delivery.objects.values_list("state", "token")) == {("pending", 1)}


class TestABrokerThatRefusesOneQueue:
    @pytest.fixture(autouse=True)
    def _two_queues(self, db: None, own_registry: None, monkeypatch: pytest.MonkeyPatch) -> None:
        """Two handlers; the one with the refused queue is first in the first pass."""
        monkeypatch.setattr(publishing, "_logged_at", {})
        monkeypatch.setattr(publishing, "_refusing", set())

        @subscribe("tests.Ordered", queue="refused")
        def count() -> None: ...

        @subscribe("tests.Ordered", queue="accepted")
        def add_up() -> None: ...

        emit_events("tests.Ordered", 2)

    def states(self) -> dict[str, str]:
        return dict(Delivery.objects.values_list("subscription__handler", "state"))

    def test_gets_the_messages_of_other_queues(self, caplog: pytest.LogCaptureFixture):
        """Failed: the messages behind the refused one were never published."""
        published: list[Message] = []

        def publish(message: Message) -> None:
            if message.queue == "refused":
                raise OSError("PRECONDITION_FAILED - inequivalent arg 'x-queue-type'")
            published.append(message)

        relay_pass(publish=publish)

        assert [one.queue for one in published] == ["accepted"]
        assert self.states() == {"tests.count": "pending", "tests.add_up": "sent"}
        note = Delivery.objects.filter(state="pending")[0].note
        assert note.startswith("the broker refused its message: OSError: PRECONDITION_FAILED")
        assert "The broker refuses messages for queue refused" in caplog.text

    def test_is_logged_at_intervals(self, caplog: pytest.LogCaptureFixture):
        """Failed: one error for each pass, of which there are fifty in a second."""

        def refuse(message: Message) -> None:
            if message.queue == "refused":
                raise OSError("PRECONDITION_FAILED")

        for _ in range(3):
            emit_events("tests.Ordered", 1)
            relay_pass(publish=refuse)

        lines = [one for one in caplog.records if one.name == "outbox.relay"]
        assert len(lines) == 1

    def test_is_called_once_for_each_queue(self):
        asked: list[str] = []

        def refuse(message: Message) -> None:
            asked.append(message.queue)
            raise ConnectionError("refused")

        with pytest.raises(BrokerUnavailable):
            relay_pass(publish=refuse)

        assert asked == ["refused", "accepted"]

    def test_that_hangs_is_not_called_for_other_queues(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(publishing, "_BROKER_SECONDS", 0.0)
        asked: list[str] = []

        def refuse(message: Message) -> None:
            asked.append(message.queue)
            raise TimeoutError("timed out")

        with pytest.raises(BrokerUnavailable, match="TimeoutError: timed out"):
            relay_pass(publish=refuse)

        assert asked == ["refused"]
        assert set(self.states().values()) == {"pending"}

    def test_that_only_lacks_a_leader_delays_no_other_queue(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ):
        """Failed: its late answer counted as a broker that hangs."""
        monkeypatch.setattr(publishing, "_BROKER_SECONDS", 0.0)

        def publish(message: Message) -> None:
            if message.queue == "refused":
                raise QueueUnavailable("Nothing is confirmed for the queue refused.")

        relay_pass(publish=publish)

        assert self.states() == {"tests.count": "pending", "tests.add_up": "sent"}
        assert "The broker takes no message for queue refused" in caplog.text

    def test_that_only_lacks_a_leader_holds_a_pass_for_seconds_only(
        self, monkeypatch: pytest.MonkeyPatch
    ):
        """Failed: a pass waited for each of fourteen such queues, longer than its leases."""
        monkeypatch.setattr(publishing, "_QUEUES_SECONDS", 0.0)
        asked: list[str] = []

        def publish(message: Message) -> None:
            asked.append(message.queue)
            raise QueueUnavailable("Nothing is confirmed.")

        planned = relay_pass(publish=publish)

        assert asked == ["refused"]
        assert planned.messages == [], "None was published."
        assert set(self.states().values()) == {"pending"}

    def test_gets_the_messages_of_other_queues_first_in_the_next_pass(
        self, monkeypatch: pytest.MonkeyPatch
    ):
        """Failed: behind fourteen such queues, messages of others were never published."""
        monkeypatch.setattr(publishing, "_QUEUES_SECONDS", 0.0)
        asked: list[str] = []

        def publish(message: Message) -> None:
            asked.append(message.queue)
            if message.queue == "refused":
                raise QueueUnavailable("Nothing is confirmed.")

        for _ in range(2):
            relay_pass(publish=publish)
            Delivery.objects.filter(state="pending").update(due_at=timezone.now())

        assert asked == ["refused", "accepted", "refused"]
        assert self.states() == {"tests.count": "pending", "tests.add_up": "sent"}


class Written(DomainEvent, key="message_id", share="owner:{owner}"):
    message_id: str
    owner: int


class SlowBroker(list[Message]):
    """Takes each message within the same time, by the clock of the publishing code."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__()
        self.seconds = 1.0
        self._now = 1000.0
        for name in ("_logged_at", "_stopped_at"):
            monkeypatch.setattr(publishing, name, {})
        monkeypatch.setattr(publishing, "time", SimpleNamespace(monotonic=lambda: self._now))

    def __call__(self, message: Message) -> None:
        self._now += self.seconds
        self.append(message)

    @property
    def handlers(self) -> Counter[str]:
        return Counter(message.handler for message in self)


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> SlowBroker:
    return SlowBroker(monkeypatch)


class TestASlowBroker:
    """With `attempts=1`, each delivery has a message of its own."""

    @pytest.fixture(autouse=True)
    def _two_handlers(self, own_registry: None) -> None:
        @subscribe("tests.Ordered", attempts=1)
        def count() -> None: ...

        @subscribe("tests.Ordered", attempts=1)
        def add_up() -> None: ...

    def test_ends_a_pass_and_leaves_the_rest_to_the_next_one(self, slow: SlowBroker):
        """Failed: a pass published for longer than its leases, which then expired."""
        emit_events("tests.Ordered", 40)
        windows = set(Subscription.objects.values_list("window_now", flat=True))

        relay_pass(publish=slow)

        assert len(slow) == 11, "ten seconds"
        left = Delivery.objects.filter(state="pending", attempts=0, due_at__lte=timezone.now())
        assert left.count() == 69
        assert "the broker is slow" in left[0].note
        assert not Attempt.objects.exists()
        assert set(Subscription.objects.values_list("window_now", flat=True)) == windows

        assert relay(publish=slow) == 69
        assert set(Delivery.objects.values_list("state", "attempts")) == {("sent", 0)}

    def test_gets_messages_of_each_handler_in_turn(self, slow: SlowBroker):
        """Failed: those of the handler that was subscribed first were all published first."""
        emit_events("tests.Ordered", 40)

        relay_pass(publish=slow)
        first = slow.handlers
        relay_pass(publish=slow)

        assert sorted(first.values()) == [5, 6]
        assert set(slow.handlers.values()) == {11}, "The next pass begins with the other one."

    def test_gets_no_message_for_which_most_of_a_short_lease_is_over(self, slow: SlowBroker):
        @subscribe("tests.Ordered", attempts=1, lease=8, time_limit=5)
        def mail() -> None: ...

        emit_events("tests.Ordered", 5)
        slow.seconds = 0.5

        relay_pass(publish=slow)

        assert len(slow) == 5, "two seconds"

    def test_gets_one_message_in_each_pass_however_slow_it_is(self, slow: SlowBroker):
        emit_events("tests.Ordered", 2)
        slow.seconds = 100.0

        for _ in range(2):
            relay_pass(publish=slow)

        assert slow.handlers == {"tests.count": 1, "tests.add_up": 1}

    def test_gets_messages_of_each_share(self, slow: SlowBroker, monkeypatch: pytest.MonkeyPatch):
        """Failed: each pass published the message of the first share, and no other one."""

        @subscribe(Written, name="tests.send", share_window=2, batch=1)
        def send_message() -> None: ...

        monkeypatch.setattr(shares, "_stopped_at", {})
        monkeypatch.setattr(publishing, "random", Random(7))
        sync_subscriptions()
        slow.seconds = 100.0
        for owner in range(5):
            with transaction.atomic():
                for number in range(40 if owner == 0 else 2):
                    emit(Written(message_id=f"{owner}-{number}", owner=owner))

        for _ in range(30):
            run_messages(relay_pass(publish=slow).messages)

        done = Delivery.objects.filter(state="done").values_list("share", flat=True)
        assert set(done) == {f"owner:{owner}" for owner in range(5)}

    def test_gets_messages_of_retries(self, slow: SlowBroker, monkeypatch: pytest.MonkeyPatch):
        """Failed: each pass published a message of new deliveries, and no retry."""

        @subscribe("tests.Paid", name="tests.book", batch=10)
        def book() -> None: ...

        monkeypatch.setattr(publishing, "random", Random(7))
        sync_subscriptions()
        emit_events("tests.Paid", 3)
        run_pass(only=[])
        retries = list(Delivery.objects.values_list("pk", flat=True))
        Delivery.objects.update(attempts=1)
        slow.seconds = 100.0

        for _ in range(30):
            emit_events("tests.Paid", 10)
            run_messages(relay_pass(publish=slow).messages)

        assert Delivery.objects.filter(pk__in=retries, state="done").exists()

    def test_delays_no_inline_delivery_for_most_of_its_lease(self, slow: SlowBroker):
        """Failed: another relay recorded a worker death, although the handler had never run."""

        @subscribe("tests.Paid", inline=True, lease=8, time_limit=5)
        def book() -> None: ...

        inline = InlineTransport("relay@host", deliver_started)
        emit_events("tests.Ordered", 5)
        emit_events("tests.Paid")

        relay_pass(publish=slow, inline=inline)

        assert inline.started is not None
        assert len(slow) == 3, "two seconds"

    def test_is_logged_at_intervals(self, slow: SlowBroker, caplog: pytest.LogCaptureFixture):
        emit_events("tests.Ordered", 20)
        Subscription.objects.update(lease_seconds=4)

        for _ in range(3):
            relay_pass(publish=slow)

        [line] = [one for one in caplog.records if one.name == "outbox.relay"]
        assert line.getMessage().startswith(
            "The broker has taken 2 of 40 messages of a pass in 2.0 s. Later passes send the others"
        )
        assert line.levelname == "WARNING"
