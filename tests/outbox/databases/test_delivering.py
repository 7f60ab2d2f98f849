"""Relays, messages and workers of several databases."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.db import OperationalError, transaction
from pytest_django import Settings

from outbox import DomainEvent, databases, emit, operations, subscribe, tasks
from outbox.counting import minutes
from outbox.deliveries import heartbeat
from outbox.deliveries.transient_errors import DatabaseAccess
from outbox.local.process import WorkProcess
from outbox.models import Delivery, Event, Heartbeat, Minute, Subscription
from outbox.relay import passes
from outbox.relay.loop import RelayLoop
from outbox.relay.passes import relay_pass
from outbox.testing import Outbox
from outbox.transports import celery_broker, nudge
from outbox.transports.base import Message
from tests.outbox.two_databases import BOTH, sync_both, unreachable
from tests.outbox.work_threads import working
from tests.processes import eventually

pytestmark = pytest.mark.django_db(transaction=True)


class ParcelMoved(DomainEvent, key="parcel_id"):
    """A parcel moved to another place."""

    parcel_id: UUID


def emit_in(using: str, number: int = 1) -> None:
    for _ in range(number):
        with transaction.atomic(using=using):
            emit(ParcelMoved(parcel_id=uuid4()))


def states_in(using: str) -> list[str]:
    return list(Delivery.objects.using(using).order_by("id").values_list("state", flat=True))


def subscribe_recorder(seen: list[str]) -> None:
    @subscribe("tests.ParcelMoved")
    def record(parcel_id: UUID) -> None:
        seen.append(databases.alias())

    sync_both()


class Sent(list[dict[str, Any]]):
    """The arguments of the tasks that a transport of Celery sends. No broker gets them."""

    def dispatch(self, message: Message) -> None:
        args, kwargs = celery_broker._arguments(message)
        self.append({"args": args, **kwargs})

    def is_available(self) -> bool:
        return True

    def nudge(self) -> None: ...

    def run_all(self) -> None:
        for one in self:
            arguments = dict(one)
            tasks.deliver_message(*arguments.pop("args"), **arguments)


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> Sent:
    taken = Sent()
    monkeypatch.setattr(tasks, "CeleryTransport", lambda: taken)
    return taken


def send(using: str, sent: Sent) -> None:
    relay_pass(publish=sent.dispatch, using=using)


class TestAMessage:
    def test_names_its_database(self, shard: str):
        subscribe_recorder([])
        messages: list[Message] = []
        for using in BOTH:
            emit_in(using)
            relay_pass(publish=messages.append, using=using)

        assert [one.database for one in messages] == BOTH

    def test_without_the_setting_names_none(self, shard: str, settings: Settings):
        settings.OUTBOX = {**settings.OUTBOX, "DATABASES": []}
        subscribe_recorder([])
        emit_in("default")
        messages: list[Message] = []

        relay_pass(publish=messages.append)

        assert [one.database for one in messages] == [""]


class TestAMessageOfCelery:
    def test_is_run_in_its_database(self, shard: str, sent: Sent):
        seen: list[str] = []
        subscribe_recorder(seen)
        for using in BOTH:
            emit_in(using)
            send(using, sent)

        sent.run_all()

        assert seen == BOTH
        assert states_in("default") == states_in(shard) == ["done"]

    def test_has_no_pairs_for_a_worker_that_knows_only_the_default_database(
        self, shard: str, sent: Sent
    ):
        """Ids mean other rows there: such a worker would run a handler for another's delivery."""
        subscribe_recorder([])
        emit_in(shard)
        send(shard, sent)

        [message] = sent

        assert list(message["args"][1]) == []
        assert len(message["pairs_there"]) == 1

    def test_of_the_default_database_is_run_by_such_a_worker(self, shard: str, sent: Sent):
        subscribe_recorder([])
        emit_in("default")
        send("default", sent)

        [message] = sent

        assert len(message["args"][1]) == 1

    def test_without_a_database_is_run_in_the_default_one(self, shard: str):
        """A relay of an earlier release has sent it."""
        seen: list[str] = []
        subscribe_recorder(seen)
        emit_in("default")
        [message] = relay_pass(publish=lambda _message: None, using="default").messages

        tasks.deliver_message(
            message.handler,
            [list(pair) for pair in message.pairs],
            subscription=message.subscription,
        )

        assert seen == ["default"]

    def test_for_an_unlisted_database_starts_nothing(
        self, shard: str, sent: Sent, settings: Settings, caplog: pytest.LogCaptureFixture
    ):
        seen: list[str] = []
        subscribe_recorder(seen)
        emit_in(shard)
        send(shard, sent)
        settings.OUTBOX = {**settings.OUTBOX, "DATABASES": ["default"]}

        sent.run_all()

        assert seen == []
        assert states_in(shard) == ["sent"]
        assert "is for the database shard_1" in caplog.text


class TestTheTaskOfBeat:
    def test_relays_each_database(self, shard: str, sent: Sent):
        subscribe_recorder([])
        for using in BOTH:
            emit_in(using)

        tasks.run_relay()

        assert [one["database"] for one in sent] == BOTH

    def test_relays_the_others_if_one_fails(
        self, shard: str, sent: Sent, monkeypatch: pytest.MonkeyPatch
    ):
        subscribe_recorder([])
        emit_in(shard)

        def fail_in_default(**options: Any) -> Any:
            if databases.alias() == "default":
                raise RuntimeError("no")
            return relay_pass(**options)

        monkeypatch.setattr(tasks, "relay_pass", fail_in_default)

        with pytest.raises(RuntimeError, match="no"):
            tasks.run_relay()

        assert [one["database"] for one in sent] == [shard]

    @pytest.mark.parametrize("task", [tasks.run_relay, tasks.prune_old_events])
    def test_asks_a_database_that_cannot_be_reached_once(
        self,
        shard: str,
        sent: Sent,
        settings: Settings,
        monkeypatch: pytest.MonkeyPatch,
        task: Callable[[], None],
    ):
        """Failed: each statement waited for it, three to six times the limit of a connection."""
        settings.OUTBOX = {**settings.OUTBOX, "RETENTION": {"default": 1}}
        monkeypatch.setattr(heartbeat, "_written", {})
        subscribe_recorder([])
        emit_in("default")

        with unreachable(shard) as asked, pytest.raises(OperationalError) as raised:
            task()

        assert asked == [shard]
        assert raised.value.__notes__ == [f"In the database {shard}."]
        assert len(sent) == (task is tasks.run_relay)

    def test_writes_a_heartbeat_in_each(
        self, shard: str, sent: Sent, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setattr(heartbeat, "_written", {})

        tasks.run_relay()

        for using in BOTH:
            assert Heartbeat.objects.using(using).filter(kind="beat").count() == 1


class TestARelay:
    def test_of_celery_works_on_each_database(self, shard: str, sent: Sent):
        subscribe_recorder([])
        relays = tasks.build_relay("relay@host")
        relays.start()
        try:
            for using in BOTH:
                emit_in(using)
            relays.nudge()
            eventually(lambda: len(sent) == 2, "two messages", within=60)
        finally:
            relays.stop()

        assert sorted(one["database"] for one in sent) == BOTH


class TestAProcessWithoutABroker:
    @pytest.fixture(autouse=True)
    def _local(self, shard: str, settings: Settings) -> None:
        settings.OUTBOX = {**settings.OUTBOX, "TRANSPORTS": ["local"]}

    @pytest.mark.parametrize("threads", [1, 3])
    def test_delivers_in_each_database(self, shard: str, threads: int):
        seen: list[str] = []
        subscribe_recorder(seen)

        with working(threads=threads):
            for using in BOTH:
                emit_in(using, 10)
            eventually(lambda: len(seen) == 20, "20 done", within=120)

        assert sorted(seen) == ["default"] * 10 + [shard] * 10
        assert set(states_in("default")) == set(states_in(shard)) == {"done"}

    def test_hands_back_what_waits_in_its_database(self, shard: str):
        """Ids and tokens are the same in both databases, so a mistake changes the other row."""
        subscribe_recorder([])
        process = WorkProcess(threads=1, stop_seconds=10)
        for using in BOTH:
            emit_in(using)
            [message] = relay_pass(publish=lambda _message: None, using=using).messages
            if using == shard:
                process._transport.pool.put(message)

        process._hand_back_all()

        assert states_in(shard) == ["pending"]
        assert states_in("default") == ["sent"]

    def test_hands_back_what_waits_in_the_others_while_one_cannot_be_reached(self, shard: str):
        """Seen to fail if one thread hands back for all: it waits for the end of the outage."""
        subscribe_recorder([])
        process = WorkProcess(threads=1, stop_seconds=10)
        for using in BOTH:
            emit_in(using)
            [message] = relay_pass(publish=lambda _message: None, using=using).messages
            process._transport.pool.put(message)
        with unreachable("default"):
            ending = threading.Thread(target=process._hand_back_all, daemon=True)
            ending.start()
            eventually(lambda: states_in(shard) == ["pending"], "it is handed back", within=60)

        ending.join(60)
        assert states_in("default") == ["pending"]

    def test_lends_the_thread_of_a_start_while_its_database_cannot_be_reached(
        self, shard: str, monkeypatch: pytest.MonkeyPatch
    ):
        """Seen to fail if the only thread stays reserved: the other database waits, too."""
        seen: list[str] = []
        subscribe_recorder(seen)
        fails, is_over = threading.Event(), threading.Event()
        wait = RelayLoop._wait_for_database

        def fail_after_the_start(*args: Any, **options: Any) -> Any:
            found = relay_pass(*args, **options)
            if databases.alias() == "default" and options["inline"].started and not fails.is_set():
                fails.set()
                raise OperationalError("server closed the connection")
            return found

        def wait_until_over(self: RelayLoop, access: DatabaseAccess) -> None:
            assert access.using != "default" or is_over.wait(120)
            wait(self, access)

        monkeypatch.setattr(passes, "relay_pass", fail_after_the_start)
        monkeypatch.setattr(RelayLoop, "_wait_for_database", wait_until_over)
        with working(threads=1):
            emit_in("default")
            assert fails.wait(60)
            emit_in(shard, 3)
            eventually(lambda: seen == [shard] * 3, "the others are done", within=60)
            is_over.set()
            eventually(lambda: len(seen) == 4, "the start is run, too", within=60)

        assert seen[-1] == "default"
        assert states_in("default") == ["done"]


class TestCounts:
    def test_are_stored_in_the_database_of_the_delivery(self, shard: str):
        subscribe_recorder([])
        emit_in(shard)
        for message in relay_pass(publish=lambda _message: None, using=shard).messages:
            tasks.deliver_message(
                message.handler, [], database=shard, pairs_there=[list(p) for p in message.pairs]
            )
        minutes._buffer.write()

        assert Minute.objects.using(shard).filter(done=1).exists()
        assert not Minute.objects.using("default").exists()


class TestIdsOfTwoDatabases:
    def test_are_the_same(self, shard: str):
        """The other tests rely on it: a delivery of the wrong database would be found."""
        subscribe_recorder([])
        for using in BOTH:
            emit_in(using)
            relay_pass(publish=lambda _message: None, using=using)

        first, second = (Delivery.objects.using(using).get() for using in BOTH)
        assert first.token == second.token
        assert Subscription.objects.using("default").count() == 1
        assert Event.objects.using(shard).count() == 1


class TestTheTestKit:
    def test_works_on_a_named_database(self, shard: str):
        seen: list[str] = []
        subscribe_recorder(seen)
        outbox = Outbox(using=shard)
        emit_in(shard)

        outbox.deliver_all()

        assert seen == [shard]


class TestAnOperation:
    def test_nudges_the_relay_of_the_named_database(self, shard: str, settings: Settings):
        """Failed: it nudged that of the first one, so the deliveries waited for the next poll."""
        subscribe_recorder([])
        settings.OUTBOX = {**settings.OUTBOX, "NUDGE": True}
        nudged: list[str] = []

        def take(using: str) -> bool:
            nudged.append(using)
            return True

        nudge.attach(take)
        try:
            operations.pause("tests.record", by="somebody", reason="test", using=shard)
            operations.resume("tests.record", by="somebody", using=shard)
        finally:
            nudge.attach(None)

        assert set(nudged) == {shard}
