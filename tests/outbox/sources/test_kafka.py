"""The Kafka source against a broker: each message becomes one event, whoever is killed."""

from __future__ import annotations

import json
import re
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import pytest
from confluent_kafka import Producer
from django.core.exceptions import ImproperlyConfigured

from outbox.deliveries import failpoints
from outbox.models import Event, Received, SourceState
from outbox.sources.base import SourceUnavailable
from outbox.sources.kafka import KafkaSource
from outbox.sources.receiver import Receiver
from outbox.sources.state import flush
from tests.closed_port import HOST, port_of_nobody
from tests.outbox.sources.messages import (
    PAID,
    configure,
    declare_invoice_paid,
    new_order,
)
from tests.outbox.sources.receiving import receiving
from tests.processes import eventually
from tests.servers.kafka import KafkaServer

UNREADABLE = "outbox.UnreadableMessageReceived"


@pytest.fixture
def topic(kafka: KafkaServer) -> str:
    return kafka.create_topic(partitions=4)


@pytest.fixture
def sources(kafka: KafkaServer, topic: str) -> dict[str, Any]:
    """`OUTBOX["SOURCES"]` with the source `billing`."""
    options = {"bootstrap.servers": kafka.bootstrap_servers, "session.timeout.ms": 6000}
    return {
        "billing": {
            "BACKEND": "outbox.sources.kafka.KafkaSource",
            "TOPICS": [topic],
            "GROUP": f"group-{topic}",
            "OPTIONS": options,
            "MAX_BACKLOG": 1_000_000,  # no relay takes the events
        }
    }


@pytest.fixture
def source(sources: Mapping[str, Any]) -> Iterator[KafkaSource]:
    made = new_source(sources)
    yield made
    made.close()


def new_source(sources: Mapping[str, Any]) -> KafkaSource:
    given = sources["billing"]
    return KafkaSource(
        "billing", topics=given["TOPICS"], group=given["GROUP"], options=given["OPTIONS"]
    )


def send(kafka: KafkaServer, topic: str, number: int, *, first: int = 0, bad: int = -1) -> None:
    """Send CloudEvents in binary encoding; the one with the number `bad` is no JSON."""
    producer = Producer({"bootstrap.servers": kafka.bootstrap_servers})
    for index in range(first, first + number):
        headers = {"ce_specversion": "1.0", "ce_id": str(index), "ce_source": "/b", "ce_type": PAID}
        data = new_order()
        body = b"{" if index == bad else json.dumps(data).encode()
        producer.produce(
            topic,
            key=data["order_id"],
            value=body,
            headers={**headers, "content-type": "application/json"},
            partition=index % 4,
        )
    assert producer.flush(60) == 0


def received(source: KafkaSource, number: int) -> list[Any]:
    """Receive until there are so many messages."""
    found: list[Any] = []

    def enough() -> bool:
        found.extend(source.receive(100, timeout=0.5))
        return len(found) >= number

    eventually(enough, f"{number} messages")
    return found


def stored() -> int:
    return Event.objects.filter(name="billing.InvoicePaid").count()


def assert_exactly_once(number: int) -> None:
    keys = list(Event.objects.filter(name="billing.InvoicePaid").values_list("key", flat=True))
    assert len(keys) == len(set(keys)) == number
    ids = Received.objects.values_list("external_id", flat=True)
    assert sorted(ids) == sorted(f"/b {index}" for index in range(number))


@pytest.mark.once
class TestTheSource:
    def test_receives_key_headers_and_body(self, kafka, topic, source):
        send(kafka, topic, 1)

        [message] = received(source, 1)

        assert message.position == f"{topic}/0/0"
        assert message.key == json.loads(message.body)["order_id"]
        assert message.headers["ce_type"] == PAID

    def test_receives_again_what_it_did_not_acknowledge(self, kafka, topic, sources):
        send(kafka, topic, 8)
        first = new_source(sources)
        first_batch = received(first, 8)
        first.acknowledge([one for one in first_batch if one.handle[1] < 2])
        first.close()
        second = new_source(sources)
        try:
            again = received(second, 4)
        finally:
            second.close()

        assert {one.handle[1] for one in again} == {2, 3}

    def test_returns_to_released_messages(self, kafka, topic, source):
        send(kafka, topic, 4)
        batch = received(source, 4)

        source.release(batch)

        again = received(source, 4)
        assert {one.position for one in again} == {one.position for one in batch}

    def test_measures_the_lag_of_the_whole_group(self, kafka, topic, source):
        send(kafka, topic, 8)

        eventually(lambda: source.lag() == 8, "a lag of 8")
        source.acknowledge(received(source, 8))
        eventually(lambda: source.lag() == 0, "a lag of 0")

    def test_receives_nothing_while_it_is_kept_alive_and_everything_afterwards(
        self, kafka, topic, source
    ):
        send(kafka, topic, 4)
        source.acknowledge(received(source, 4))
        source.keep_alive()
        send(kafka, topic, 4, first=4)
        for _ in range(5):
            source.keep_alive()

        assert len(received(source, 4)) == 4

    @pytest.mark.parametrize("is_named_too", [False, True])
    def test_measures_the_lag_of_topics_that_match_a_pattern(
        self, kafka, topic, sources, is_named_too
    ):
        names = [topic] if is_named_too else []
        sources["billing"]["TOPICS"] = [f"^{re.escape(topic[:-1])}.$", *names]
        send(kafka, topic, 3)
        matching = new_source(sources)
        try:
            eventually(lambda: matching.lag() == 3, "a lag of 3")
        finally:
            matching.close()

    def test_holds_messages_while_partitions_leave_and_return(self, kafka, topic, sources):
        """It sets back no offset that another process has committed meanwhile."""
        send(kafka, topic, 4)
        first, second = new_source(sources), new_source(sources)
        held = received(first, 4)
        others: list[Any] = []

        def has_moved() -> bool:
            first.hold(held)
            others.extend(second.receive(100, timeout=0.1))
            return len({one.handle[1] for one in others}) == 2

        eventually(has_moved, "two partitions of the other process")
        send(kafka, topic, 4, first=4)

        def has_new_ones() -> bool:
            first.hold(held)
            others.extend(second.receive(100, timeout=0.1))
            return len({one.position for one in others}) == 4

        eventually(has_new_ones, "the next message of both")
        second.acknowledge(others)
        second.close()

        def has_returned() -> bool:
            first.hold(held)
            return len(first._consumer.assignment()) == 4

        eventually(has_returned, "their return")
        first.acknowledge(held)

        own = {one.handle[:2] for one in others}
        committed = first._consumer.committed(first._consumer.assignment(), timeout=10)
        assert {one.offset for one in committed if (one.topic, one.partition) in own} == {2}
        first.acknowledge(received(first, 4))
        eventually(lambda: first.lag() == 0, "all offsets committed")
        first.close()

    def test_finds_a_missing_topic(self, kafka, sources):
        sources["billing"]["TOPICS"] = ["no.such.topic"]
        missing = new_source(sources)
        try:
            [problem] = missing.check(timeout=10)
        finally:
            missing.close()

        assert "no.such.topic" in problem

    def test_finds_an_unreachable_broker_and_quotes_no_option(self, sources):
        options = {"bootstrap.servers": "127.0.0.1:1", "sasl.password": "hunter2"}
        sources["billing"]["OPTIONS"] = options
        lost = new_source(sources)
        try:
            [problem] = lost.check(timeout=1)
        finally:
            lost.close()

        assert "reaches no broker" in problem
        assert "hunter2" not in problem

    @pytest.mark.parametrize(("level", "is_logged"), [({}, False), ({"log_level": 6}, True)])
    def test_logs_no_attempt_to_connect_unless_asked_to(self, sources, caplog, level, is_logged):
        sources["billing"]["OPTIONS"] = {"bootstrap.servers": f"{HOST}:{port_of_nobody()}", **level}
        lost = new_source(sources)
        try:
            eventually(partial(is_unavailable, lost), "the source knows that no broker answers")
            [_problem] = lost.check(timeout=1)
        finally:
            lost.close()

        logged = [one for one in caplog.records if one.name == "outbox.sources.kafka"]
        assert bool(logged) is is_logged

    @pytest.mark.parametrize("option", ["enable.auto.commit", "group.id"])
    def test_refuses_an_option_that_it_sets_itself(self, sources, option):
        sources["billing"]["OPTIONS"] = {option: "true"}

        with pytest.raises(ImproperlyConfigured, match=option):
            new_source(sources)


def is_unavailable(source: KafkaSource) -> bool:
    try:
        source.receive(1, timeout=0.1)
    except SourceUnavailable:
        return True
    return False


@pytest.mark.django_db(transaction=True)
class TestAReceiver:
    @pytest.fixture
    def run(self, own_registry, settings, sources):
        """Run a receiver in a thread, until the end of the test."""
        declare_invoice_paid()
        stopping = threading.Event()
        threads: list[threading.Thread] = []

        def start(**more: Any) -> None:
            config = configure(settings, **{**sources["billing"], **more})
            receiver = Receiver(config, stopping=stopping)
            threads.append(threading.Thread(target=receiver.run))
            threads[-1].start()

        yield start
        stopping.set()
        for thread in threads:
            thread.join()

    def test_is_not_blocked_by_a_poison_message(self, kafka, topic, run):
        send(kafka, topic, 12, bad=4)

        run()

        eventually(lambda: stored() == 11, "11 events")
        assert Event.objects.filter(name=UNREADABLE).count() == 1

    def test_continues_when_the_broker_returns(self, kafka, topic, run):
        send(kafka, topic, 4)
        run()
        eventually(lambda: stored() == 4, "4 events")

        with kafka.frozen():
            pass
        send(kafka, topic, 4, first=4)

        eventually(lambda: stored() == 8, "8 events")

    @pytest.mark.once
    def test_shows_that_the_broker_is_down_until_it_is_back(self, kafka, topic, run, settings):
        settings.OUTBOX = {**settings.OUTBOX, "HEARTBEAT_SECONDS": 0.1}
        run()
        failing = SourceState.objects.exclude(failing_at=None)
        eventually(lambda: SourceState.objects.exclude(lag=None).exists(), "the lag")

        with kafka.down():
            eventually(failing.exists, "the failure")
        send(kafka, topic, 1)  # creates the topic, which the emulator loses when it is killed

        eventually(lambda: not failing.exists(), "the end of the failure")

    def test_pauses_while_its_backlog_is_too_large(self, kafka, topic, run, settings):
        """Without a relay, each event waits for fan-out and counts."""
        send(kafka, topic, 40)
        run(MAX_BACKLOG=10)
        eventually(lambda: stored() >= 10, "the first events")
        eventually(lambda: SourceState.objects.exclude(paused_at=None).exists(), "the pause")
        before = stored()

        send(kafka, topic, 40, first=40)
        assert stored() == before
        Event.objects.update(fanned_out_at="2026-01-01T00:00:00Z")

        eventually(lambda: stored() > before, "further events")

    def test_stores_counts_and_lag(self, kafka, topic, run, settings):
        settings.OUTBOX = {**settings.OUTBOX, "HEARTBEAT_SECONDS": 0.1}
        send(kafka, topic, 4)

        run()

        eventually(lambda: SourceState.objects.filter(lag=0).exists(), "a lag of 0")
        flush()
        assert SourceState.objects.get().stored == 4


@pytest.mark.django_db(transaction=True)
class TestProcessesThatAreKilled:
    """Each has a `group.instance.id`: the emulator never evicts another member that was killed."""

    @pytest.mark.parametrize("point", [failpoints.BEFORE_STORE, failpoints.AFTER_STORE])
    def test_store_each_message_once(self, kafka, topic, sources, point):
        send(kafka, topic, 40)
        with receiving(member(sources, "a"), die_at=point) as process:
            assert process.ends() == -signal.SIGKILL

        with receiving(member(sources, "a")):
            eventually(lambda: stored() >= 40, "40 events")
            eventually(lambda: lag(sources) == 0, "all offsets committed")

        assert_exactly_once(40)


@pytest.mark.django_db(transaction=True)
class TestTwoProcessesOfAGroup:
    def test_hand_over_partitions_in_mid_batch(self, kafka, topic, sources):
        """A second process joins while the first one stores, and leaves while it stores itself."""
        number = 0
        with receiving(sources, wait=0.05) as first:
            group = sources["billing"]["GROUP"]
            eventually(lambda: kafka.serves_group(group), "the partitions of the first process")
            with receiving(sources, wait=0.05) as second:
                while not all("stores a batch" in one.output for one in (first, second)):
                    assert not second.has_ended, second.output
                    send(kafka, topic, 4, first=number)
                    number += 4
                    time.sleep(0.02)
                send(kafka, topic, 400, first=number)
                number += 400
                second.send(signal.SIGTERM)
                assert second.ends() == 0, second.output
            send(kafka, topic, 40, first=number)
            number += 40
            eventually(lambda: stored() >= number, "all events")

        assert_exactly_once(number)


def member(sources: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return the same sources for one process of the group."""
    options = {**sources["billing"]["OPTIONS"], "group.instance.id": name}
    return {"billing": {**sources["billing"], "OPTIONS": options}}


def lag(sources: Mapping[str, Any]) -> int | None:
    source = new_source(sources)
    try:
        return source.lag()
    finally:
        source.close()
