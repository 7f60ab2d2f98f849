"""The Kafka sink against a broker. See tests/servers/kafka.py for the broker."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import KafkaError, Producer

from outbox import PermanentFailure
from outbox.sinks.base import SinkMessage, SinkUnavailable
from outbox.sinks.kafka import KafkaSink, NotPublished
from outbox.testing import SinkContract, StoredMessage
from tests.processes import Running
from tests.servers.kafka import KafkaServer
from tests.servers.refusing_kafka import refusing_broker

pytestmark = pytest.mark.once

ROOT = Path(__file__).resolve().parents[3]
#: Seconds for a call that must succeed.
TIMEOUT = 30.0

#: Publishes, forks, and publishes in the child. The child must also end by itself.
FORKS = """
import os, sys
from datetime import UTC, datetime
from uuid import uuid4
from outbox.events import EventRecord
from outbox.sinks.base import SinkMessage
from outbox.sinks.kafka import KafkaSink

def publish(text):
    event = EventRecord(id=uuid4(), name="a.B", version=1, key=text, payload={},
                        emitted_at=datetime.now(UTC), correlation_id=uuid4())
    message = SinkMessage(id=str(event.id), event=event, topic=sys.argv[2], key=text, headers={},
                          body=text.encode())
    assert sink.publish([message], timeout=30) == [None]

sink = KafkaSink("parcels", {"bootstrap.servers": sys.argv[1]})
publish("before")
child = os.fork()
if child == 0:
    publish("child")
    sys.exit(0)  # destroys remaining objects, as an interpreter does
publish("parent")
print("child ended with", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""

#: Prints where a held client is destroyed.
KEEPS = """
import os, sys
from outbox.sinks.kafka_client import ClientOfProcess

class Client:
    def __del__(self):
        print("parent" if os.getpid() == parent else "child", flush=True)

parent = os.getpid()
held = ClientOfProcess()
held.client = Client()
child = os.fork()
if child == 0:
    sys.exit(held.client is not None)
assert os.waitpid(child, 0)[1] == 0
held.client = None
"""


@pytest.fixture
def topic(kafka: KafkaServer) -> str:
    return kafka.create_topic(partitions=3)


@pytest.fixture
def sink(kafka: KafkaServer) -> Iterator[KafkaSink]:
    sink = KafkaSink("parcels", {"bootstrap.servers": kafka.bootstrap_servers})
    yield sink
    sink.close()


def new_messages(sink: KafkaSink, topic: str, number: int, *, size: int = 0) -> list[SinkMessage]:
    contract = SinkContract()
    return [contract.message(sink, topic, number=one, size=size) for one in range(number)]


def received_messages(kafka: KafkaServer, topic: str) -> list[StoredMessage]:
    return [
        StoredMessage(
            key=(one.key() or b"").decode(),
            headers=kafka.headers(one),
            body=one.value() or b"",
            id="",
        )
        for one in kafka.received(topic)
    ]


def ids(kafka: KafkaServer, topic: str) -> list[str]:
    return [one.headers["ce_id"] for one in received_messages(kafka, topic)]


class TestKafkaSink(SinkContract):
    @pytest.fixture
    def sink(self, sink: KafkaSink) -> KafkaSink:
        return sink

    @pytest.fixture
    def topic(self, topic: str) -> str:
        return topic

    @pytest.fixture
    def received(self, kafka: KafkaServer) -> Callable[[str], Sequence[StoredMessage]]:
        return lambda topic: received_messages(kafka, topic)

    @pytest.fixture
    def outage(self, kafka: KafkaServer) -> Callable[[], AbstractContextManager[object]]:
        return kafka.down


class TestKafkaSinkOnAFrozenBroker(TestKafkaSink):
    """The whole contract again, with connections that stay open and never answer."""

    @pytest.fixture
    def outage(self, kafka: KafkaServer) -> Callable[[], AbstractContextManager[object]]:
        return kafka.frozen


class TestAKey:
    # The hashes are those of Kafka's own test, UtilsTest.testMurmur2.
    @pytest.mark.parametrize(
        ("key", "murmur2"),
        [
            ("21", -973932308),
            ("foobar", -790332482),
            ("a-little-bit-long-string", -985981536),
            ("a-little-bit-longer-string", -1486304829),
        ],
    )
    def test_chooses_the_partition_that_java_clients_choose(self, kafka, topic, sink, key, murmur2):
        (message,) = new_messages(sink, topic, 1)

        assert sink.publish([replace(message, key=key)], timeout=TIMEOUT) == [None]

        (found,) = kafka.received(topic)
        assert found.partition() == (murmur2 & 0x7FFFFFFF) % 3

    def test_is_absent_if_the_event_has_none(self, kafka, topic, sink):
        (message,) = new_messages(sink, topic, 1)

        assert sink.publish([replace(message, key="")], timeout=TIMEOUT) == [None]

        assert [one.key() for one in kafka.received(topic)] == [None]


class TestACall:
    def test_may_have_several_topics(self, kafka, sink):
        topics = [kafka.create_topic() for _ in range(3)]
        messages = [one for topic in topics for one in new_messages(sink, topic, 5)]

        assert sink.publish(messages, timeout=TIMEOUT) == [None] * 15

        for topic in topics:
            assert len(kafka.received(topic)) == 5

    def test_keeps_the_order_of_a_partition(self, kafka, sink):
        topic = kafka.create_topic()
        messages = new_messages(sink, topic, 1000)

        assert sink.publish(messages, timeout=TIMEOUT) == [None] * 1000

        assert ids(kafka, topic) == [one.id for one in messages]

    def test_is_divided_if_only_its_sum_is_too_large_for_the_topic(self, kafka, sink):
        topic = kafka.create_topic(**{"max.message.bytes": "5000"})
        messages = new_messages(sink, topic, 10, size=1000)

        assert sink.publish(messages, timeout=TIMEOUT) == [None] * 10

        assert sorted(ids(kafka, topic)) == sorted(one.id for one in messages)

    def test_has_one_refusal_for_each_message_that_is_too_large_for_the_topic(self, kafka, sink):
        topic = kafka.create_topic(**{"max.message.bytes": "5000"})
        messages = new_messages(sink, topic, 10, size=1000)
        messages[4] = new_messages(sink, topic, 1, size=6000)[0]

        results = sink.publish(messages, timeout=TIMEOUT)

        assert isinstance(results[4], PermanentFailure)
        assert [*results[:4], *results[5:]] == [None] * 9
        assert messages[4].id not in ids(kafka, topic)

    def test_reports_an_invalid_topic_for_its_own_messages(self, kafka, topic, sink):
        (good,) = new_messages(sink, topic, 1)
        (bad,) = new_messages(sink, "no topic", 1)

        first, second = sink.publish([bad, good], timeout=TIMEOUT)

        assert isinstance(first, NotPublished)
        assert "for topic no topic: Broker: Invalid topic (TOPIC_EXCEPTION)" in str(first)
        assert second is None

    def test_is_sent_in_parts_if_the_client_queues_only_some(self, kafka, topic, sink):
        small = KafkaSink("parcels", {**sink.options, "queue.buffering.max.messages": 10})
        messages = new_messages(sink, topic, 25)

        while messages:
            results = small.publish(messages, timeout=TIMEOUT)
            assert {type(one) for one in results if one} <= {SinkUnavailable}
            left = [message for message, error in zip(messages, results, strict=True) if error]
            assert len(left) < len(messages)
            messages = left

        assert len(set(ids(kafka, topic))) == 25

    def test_that_is_interrupted_sends_nothing_later(self, kafka, topic, sink):
        (interrupted,) = new_messages(sink, topic, 1)
        (later,) = new_messages(sink, topic, 1)

        class TimeLimit(BaseException):
            pass

        producers: list[Producer] = []

        def interrupt(_error: KafkaError) -> None:
            if not producers:
                producers.append(limited._held.client)
                raise TimeLimit

        limited = KafkaSink("parcels", {**sink.options, "error_cb": interrupt})
        with kafka.down(), pytest.raises(TimeLimit):
            limited.publish([interrupted], timeout=TIMEOUT)
        assert limited.publish([later], timeout=TIMEOUT) == [None]
        producers[0].flush(TIMEOUT)  # sends what is still queued

        assert ids(kafka, topic) == [later.id]
        limited.close()


class TestAKilledBroker:
    def test_makes_each_unacknowledged_message_an_error(self, kafka, topic, sink):
        acknowledged = threading.Event()
        results: list[Exception | None] = []

        def publish_until_it_fails() -> None:
            while not any(results):
                results[:] = sink.publish(new_messages(sink, topic, 50), timeout=3)
                acknowledged.set()

        thread = threading.Thread(target=publish_until_it_fails)
        thread.start()
        assert acknowledged.wait(60)
        with kafka.down():
            thread.join()

        assert len(results) == 50
        assert {type(one) for one in results if one} == {SinkUnavailable}

    def test_receives_no_withdrawn_message_after_its_return(self, kafka, topic, sink):
        (before, during, after) = new_messages(sink, topic, 3)
        assert sink.publish([before], timeout=TIMEOUT) == [None]

        with kafka.down():
            (result,) = sink.publish([during], timeout=1)
        assert isinstance(result, SinkUnavailable)
        assert sink.publish([after], timeout=TIMEOUT) == [None]

        assert during.id not in ids(kafka, topic)

    def test_is_published_to_again_though_it_has_forgotten_the_producer(self, kafka, topic, sink):
        messages = new_messages(sink, topic, 30)
        for one in messages[:10]:
            assert sink.publish([one], timeout=TIMEOUT) == [None]
        with kafka.down():
            pass

        # The first call may meet OUT_OF_ORDER_SEQUENCE_NUMBER; it must not be the last word.
        first = sink.publish(messages[10:20], timeout=TIMEOUT)
        second = sink.publish(messages[20:], timeout=TIMEOUT)

        assert {type(one) for one in first if one} <= {SinkUnavailable}
        # The acknowledgement is asserted, and not the storage: the emulator may lose acknowledged
        # messages after a SIGKILL (tests/servers/kafka.py). The test of the whole path,
        # TestKafka in test_publishing_to_brokers.py, asserts that a delivery is owed until then.
        assert second == [None] * 10


class TestAFrozenBroker:
    def test_that_returns_in_time_stores_each_message_once(self, kafka, topic, sink):
        messages = new_messages(sink, topic, 50)
        assert sink.publish(messages[:10], timeout=TIMEOUT) == [None] * 10

        kafka.freeze()
        timer = threading.Timer(1.5, kafka.thaw)
        timer.start()
        try:
            assert sink.publish(messages[10:], timeout=TIMEOUT) == [None] * 40
        finally:
            timer.join()

        assert sorted(ids(kafka, topic)) == sorted(one.id for one in messages)

    def test_acknowledges_too_late_and_no_later_call_counts_it(self, kafka, topic, sink):
        (before, *during) = new_messages(sink, topic, 11)
        (after,) = new_messages(sink, topic, 1)
        assert sink.publish([before], timeout=TIMEOUT) == [None]

        with kafka.frozen():
            results = sink.publish(during, timeout=1)
        assert {type(one) for one in results} == {SinkUnavailable}
        assert sink.publish([after], timeout=TIMEOUT) == [None]

        # The broker may have the frozen call's request, so its messages may be stored.
        assert ids(kafka, topic).count(after.id) == 1


class TestRefusedCredentials:
    @pytest.fixture
    def refused(self) -> Iterator[KafkaSink]:
        with refusing_broker() as address:
            sink = KafkaSink(
                "parcels",
                {
                    "bootstrap.servers": address,
                    "security.protocol": "SASL_PLAINTEXT",
                    "sasl.mechanism": "PLAIN",
                    "sasl.username": "shopkeeper",
                    "sasl.password": "hunter2-hunter2",
                },
            )
            yield sink
            sink.close()

    def test_end_the_call_before_its_time_is_over(self, refused):
        messages = new_messages(refused, "freight", 3)

        # A call that waits for its deadline is ended by pytest's own time limit.
        results = refused.publish(messages, timeout=100_000)

        assert {type(one) for one in results} == {SinkUnavailable}

    def test_are_the_cause_in_each_text_and_never_quoted(self, refused):
        (result,) = refused.publish(new_messages(refused, "freight", 1), timeout=TIMEOUT)
        (problem,) = refused.check(["freight"], timeout=5)

        for text in (str(result), problem):
            assert "Local: Authentication failure (_AUTHENTICATION)" in text
            assert "shopkeeper" not in text
            assert "hunter2" not in text


class TestAForkedProcess:
    def test_publishes_and_ends(self, kafka, topic):
        command = [sys.executable, "-c", FORKS, kafka.bootstrap_servers, topic]
        running = Running(
            command, folder=ROOT, environment={"DJANGO_SETTINGS_MODULE": "shop.settings"}
        )
        try:
            running.says("child ended with 0")
            assert running.ends() == 0
        finally:
            running.end_for_sure()

        bodies = {one.body for one in received_messages(kafka, topic)}
        assert bodies == {b"before", b"child", b"parent"}

    def test_does_not_destroy_the_client_of_its_parent(self):
        """Its destruction would wait for threads that exist in the parent only."""
        command = [sys.executable, "-c", KEEPS]
        done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)

        assert done.stdout == "parent\n"


class TestSeveralBrokers:
    """The mock cluster of librdkafka: three brokers in this process, with real sockets."""

    @pytest.fixture
    def cluster(self) -> Iterator[str]:
        options: dict[str, Any] = {"bootstrap.servers": "localhost:1"}
        owner = Producer({**options, "test.mock.num.brokers": 3, "log_level": 0})
        brokers = owner.list_topics(timeout=TIMEOUT).brokers.values()
        assert len(brokers) == 3
        yield ",".join(f"{one.host}:{one.port}" for one in brokers)
        owner.flush(0)

    def test_have_each_message_once(self, cluster, tmp_path, monkeypatch):
        monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", cluster)
        server = KafkaServer(tmp_path)
        sink = KafkaSink("parcels", {"bootstrap.servers": cluster})
        messages = new_messages(sink, "freight", 200)

        assert sink.publish(messages, timeout=TIMEOUT) == [None] * 200

        found = server.received("freight")
        assert sorted(server.headers(one)["ce_id"] for one in found) == sorted(
            one.id for one in messages
        )
        assert len({one.partition() for one in found}) > 1
        sink.close()

    def test_are_checked(self, cluster):
        sink = KafkaSink("parcels", {"bootstrap.servers": cluster})

        assert sink.publish(new_messages(sink, "freight.a", 1), timeout=TIMEOUT) == [None]

        assert sink.check(["freight.a", "freight.*"], timeout=TIMEOUT) == []
        (problem,) = sink.check(["freight.b", "freight.*"], timeout=TIMEOUT)
        assert problem.startswith('Topic freight.b of sink "parcels" does not exist')


class TestTheCheck:
    def test_finds_a_topic_for_a_pattern(self, kafka, topic, sink):
        assert sink.check([f"{topic[:-4]}*"], timeout=TIMEOUT) == []
        assert len(sink.check([f"{topic}.*.more"], timeout=TIMEOUT)) == 1

    def test_creates_no_topic(self, kafka, topic, sink):
        for _ in range(2):
            assert len(sink.check([f"{topic}-new"], timeout=TIMEOUT)) == 1

    def test_compares_the_size_limits(self, kafka, sink):
        topic = kafka.create_topic(**{"max.message.bytes": "5000"})

        (problem,) = sink.check([topic], timeout=TIMEOUT)

        assert problem == (
            f'Topic {topic} accepts 5000 bytes, and sink "parcels" sends messages of up to '
            "1000000. Set message.max.bytes in OPTIONS to 5000, or raise max.message.bytes."
        )


class TestTheLog:
    def test_is_silent_during_an_outage(self, kafka, topic, sink, caplog):
        """librdkafka logs each failed connection; the delivery's error has the cause once."""
        with caplog.at_level(logging.DEBUG), kafka.down():
            (result,) = sink.publish(new_messages(sink, topic, 1), timeout=5)

        assert "(_TRANSPORT)" in str(result) or "(_ALL_BROKERS_DOWN)" in str(result)
        assert [one for one in caplog.records if one.name.startswith("outbox.sinks")] == []


def test_the_module_is_imported_without_its_client() -> None:
    code = "import sys; sys.modules['confluent_kafka'] = None; import outbox.sinks.kafka"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
