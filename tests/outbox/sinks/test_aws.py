"""The sinks of SNS and SQS against moto: splitting, FIFO, sizes, destinations, outages, check."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured

from outbox import PermanentFailure
from outbox.sinks.aws import SnsSink, SqsSink
from outbox.sinks.aws.entries import fifo_text
from outbox.sinks.aws.errors import AwsRefusal
from outbox.sinks.base import Sink, SinkUnavailable
from tests.outbox.sinks import queues
from tests.outbox.sinks.libraries import error_without
from tests.outbox.sinks.sent import message
from tests.servers.aws import AwsServer

pytestmark = pytest.mark.once

TIMEOUT = 30.0
#: Seconds that a call may take while the server is frozen. The result is asserted, not the time.
SHORT = 1.0


@pytest.fixture
def new_sink(aws: AwsServer) -> Iterator[Callable[..., Any]]:
    sinks: list[Sink] = []

    def new(backend: type[Sink], **options: object) -> Sink:
        sinks.append(backend("audit", {**aws.options, **options}))
        return sinks[-1]

    yield new
    for one in sinks:
        one.close()


@pytest.fixture
def sqs(new_sink: Callable[..., Any]) -> SqsSink:
    sink: SqsSink = new_sink(SqsSink)
    return sink


@pytest.fixture
def sns(new_sink: Callable[..., Any]) -> SnsSink:
    sink: SnsSink = new_sink(SnsSink)
    return sink


def ids(aws: AwsServer, url: str) -> list[str]:
    """Drain a queue, and return the ids in the bodies of its messages."""
    return [json.loads(one["Body"])["id"] for one in queues.drained(aws, url)]


class TestADestination:
    def test_is_a_queue_by_url_name_or_arn(self, aws, sqs):
        queue = queues.new_queue(aws)
        sent = [message(topic) for topic in queue]

        assert sqs.publish(sent, timeout=TIMEOUT) == [None] * 3

        assert sorted(ids(aws, queue.url)) == sorted(one.id for one in sent)

    def test_may_differ_within_a_call(self, aws, sqs):
        first, second = queues.new_queue(aws), queues.new_queue(aws)
        sent = [message((first, second)[number % 2].url) for number in range(30)]

        assert sqs.publish(sent, timeout=TIMEOUT) == [None] * 30

        assert sorted(ids(aws, first.url)) == sorted(one.id for one in sent[::2])
        assert sorted(ids(aws, second.url)) == sorted(one.id for one in sent[1::2])

    def test_that_is_a_missing_queue_is_an_error_with_the_next_step(self, aws, sqs):
        known = message(queues.new_queue(aws).name)

        first, second = sqs.publish([message("nowhere"), known], timeout=TIMEOUT)

        assert isinstance(first, AwsRefusal)
        assert str(first) == (
            'SQS queue "nowhere" does not exist for these credentials in this region '
            "(NonExistentQueue). Create it, or correct TOPIC or the region in OPTIONS."
        )
        assert second is None

    def test_that_is_a_missing_topic_is_an_error_with_the_next_step(self, aws, sns):
        arn = queues.new_topic(aws)

        first, second = sns.publish([message(f"{arn}-missing"), message(arn)], timeout=TIMEOUT)

        assert isinstance(first, AwsRefusal)
        assert f'SNS topic "{arn}-missing" does not exist' in str(first)
        assert second is None

    def test_that_is_a_topics_name_is_an_error_that_asks_for_the_arn(self, sns):
        [result] = sns.publish([message("parcels")], timeout=TIMEOUT)

        assert isinstance(result, AwsRefusal)
        assert str(result) == 'SNS topic "parcels" is no ARN. Set TOPIC to the topic\'s ARN.'

    def test_is_asked_for_again_after_the_queue_was_deleted(self, aws, sqs):
        queue = queues.new_queue(aws)
        assert sqs.publish([message(queue.name)], timeout=TIMEOUT) == [None]
        aws.client("sqs").delete_queue(QueueUrl=queue.url)

        [missing] = sqs.publish([message(queue.name)], timeout=TIMEOUT)
        aws.client("sqs").create_queue(QueueName=queue.name)

        assert isinstance(missing, AwsRefusal)
        assert sqs.publish([message(queue.name)], timeout=TIMEOUT) == [None]


class TestAFifoDestination:
    def test_delivers_each_group_in_the_order_of_the_calls(self, aws, sqs):
        queue = queues.new_queue(aws, fifo=True)
        sent = [[message(queue.url, key=key) for key in "abcde"] for _ in range(6)]

        for batch in sent:
            assert sqs.publish(batch, timeout=TIMEOUT) == [None] * 5

        found = queues.drained(aws, queue.url)
        for place, key in enumerate("abcde"):
            bodies = [one["Body"] for one in found if one["Attributes"]["MessageGroupId"] == key]
            assert bodies == [batch[place].body.decode() for batch in sent]

    def test_discards_a_known_id_and_stores_a_replays_number(self, aws, sqs):
        queue = queues.new_queue(aws, fifo=True)
        sent = message(queue.url)
        replayed = replace(sent, id=f"{sent.id}.1")

        for one in (sent, sent, replayed, replayed):
            assert sqs.publish([one], timeout=TIMEOUT) == [None]

        found = [queues.as_received(one).id for one in queues.drained(aws, queue.url)]
        assert found == [sent.id, f"{sent.id}.1"]

    @pytest.mark.parametrize("key", ["order 7", "注文", "x" * 129, ""])
    def test_has_a_group_for_every_key(self, aws, sqs, key):
        queue = queues.new_queue(aws, fifo=True)

        assert sqs.publish([message(queue.url, key=key)], timeout=TIMEOUT) == [None]

        [found] = queues.drained(aws, queue.url)
        assert found["Attributes"]["MessageGroupId"] == fifo_text(key)

    def test_of_sns_delivers_group_and_deduplication_id(self, aws, sns):
        topic, queue = queues.new_topic(aws, fifo=True), queues.new_queue(aws, fifo=True)
        queues.subscribe(aws, topic, queue, RawMessageDelivery="true")
        sent = message(topic, key="order-7")

        for _ in range(2):
            assert sns.publish([sent], timeout=TIMEOUT) == [None]

        [found] = queues.drained(aws, queue.url)
        assert found["Attributes"]["MessageGroupId"] == "order-7"
        assert found["Attributes"]["MessageDeduplicationId"] == sent.id


class TestAFifoText:
    @pytest.mark.parametrize("text", ["7", "x" * 128, "a!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~9"])
    def test_is_the_text_itself_if_it_is_allowed(self, text):
        assert fifo_text(text) == text

    @pytest.mark.parametrize("text", ["", "a b", "é", "x" * 129, "a\n"])
    def test_is_a_digest_of_other_texts(self, text):
        assert fifo_text(text).startswith("sha256:")
        assert len(fifo_text(text)) == 71
        assert fifo_text(text) == fifo_text(text) != fifo_text(text + "x")


class TestASizeLimit:
    def test_splits_a_call(self, aws, sqs):
        """Ten messages of 300 KiB are four requests, since one may have 1 MiB."""
        queue = queues.new_queue(aws)
        sent = [message(queue.url, body=bytes([65 + one]) * 300 * 1024) for one in range(10)]

        assert sqs.publish(sent, timeout=TIMEOUT) == [None] * 10

        found = sorted(one["Body"].encode() for one in queues.drained(aws, queue.url))
        assert found == [one.body for one in sent]

    def test_counts_attributes(self, aws, new_sink):
        sink = new_sink(SqsSink, max_bytes=100)
        queue = queues.new_queue(aws)
        # 80 for the body, 4 for the name, 6 for the type "String"
        fits = message(queue.url, headers={"name": "x" * 10}, body=b"x" * 80)
        does_not = message(queue.url, headers={"name": "x" * 11}, body=b"x" * 80)

        first, second = sink.publish([fits, does_not], timeout=TIMEOUT)

        assert first is None
        assert isinstance(second, PermanentFailure)
        assert "The message has 101 bytes" in str(second)

    def test_is_256_kib_for_a_topic_unless_it_is_raised(self, aws, sns):
        topic = queues.new_topic(aws)

        [result] = sns.publish([message(topic, body=b"x" * 257 * 1024)], timeout=TIMEOUT)

        assert isinstance(result, PermanentFailure)
        assert "accepts 262144" in str(result)

    def test_of_the_queue_refuses_only_the_large_message(self, aws, sqs):
        """moto refuses the request, so each message is sent by itself."""
        queue = queues.new_queue(aws, MaximumMessageSize="2048")
        sent = [message(queue.url) for _ in range(3)]
        sent[1] = message(queue.url, body=b"x" * 3000)

        results = sqs.publish(sent, timeout=TIMEOUT)

        assert isinstance(results[1], PermanentFailure)
        assert results[::2] == [None, None]
        assert sorted(ids(aws, queue.url)) == sorted([sent[0].id, sent[2].id])

    def test_of_the_topic_refuses_only_the_large_message(self, aws, new_sink):
        """moto refuses the entry in an answer that acknowledges the others."""
        topic, queue = queues.new_topic(aws), queues.new_queue(aws)
        queues.subscribe(aws, topic, queue, RawMessageDelivery="true")
        sent = [message(topic) for _ in range(3)]
        sent[1] = message(topic, body=b"x" * 300 * 1024)

        results = new_sink(SnsSink, max_bytes=1024 * 1024).publish(sent, timeout=TIMEOUT)

        assert isinstance(results[1], PermanentFailure)
        assert results[::2] == [None, None]
        assert sorted(ids(aws, queue.url)) == sorted([sent[0].id, sent[2].id])


class TestAMessageThatAwsCannotCarry:
    @pytest.mark.parametrize(
        ("parts", "expected"),
        [
            ({"body": b"\xff"}, "not UTF-8"),
            ({"body": b""}, "The body is empty"),
            ({"body": "\ufffe".encode()}, "The body has the character U+FFFE"),
            ({"headers": {"id": "\x01"}}, 'The header "id" has the character U+0001'),
            ({"headers": {"a b": "1"}}, 'the name of the header "a b"'),
            ({"headers": {"AWS.id": "1"}}, 'the name of the header "AWS.id"'),
            ({"headers": {f"h{one}": "1" for one in range(11)}}, "has 11 headers"),
        ],
    )
    def test_is_refused_for_good_by_itself(self, aws, sqs, parts, expected):
        queue = queues.new_queue(aws)
        sent = message(queue.url)

        first, second = sqs.publish([message(queue.url, **parts), sent], timeout=TIMEOUT)

        assert isinstance(first, PermanentFailure)
        assert expected in str(first)
        assert second is None
        assert ids(aws, queue.url) == [sent.id]

    def test_is_none_with_ten_headers_or_an_empty_one(self, aws, sqs):
        queue = queues.new_queue(aws)
        ten = {f"h{one}": "1" for one in range(10)}

        assert sqs.publish([message(queue.url, headers=ten)], timeout=TIMEOUT) == [None]
        assert sqs.publish([message(queue.url, headers={"a": ""})], timeout=TIMEOUT) == [None]


class TestAServer:
    def test_that_is_frozen_is_unavailable_and_used_again_later(self, aws, sqs):
        queue = queues.new_queue(aws)
        sent = message(queue.url)

        with aws.frozen():
            [result] = sqs.publish([sent], timeout=SHORT)
            problems = sqs.check([queue.url], timeout=SHORT)

        assert isinstance(result, SinkUnavailable)
        assert len(problems) == 1
        assert sqs.publish([sent], timeout=TIMEOUT) == [None]
        assert set(ids(aws, queue.url)) == {sent.id}

    def test_that_is_down_is_unavailable(self, new_sink):
        sink = new_sink(SqsSink, endpoint_url="http://127.0.0.1:1")

        [result] = sink.publish([message("parcels")], timeout=TIMEOUT)

        assert isinstance(result, SinkUnavailable)
        assert "cannot be reached (EndpointConnectionError)" in str(result)


class TestAForkedChild:
    def test_publishes_with_clients_of_its_own(self, aws, sqs):
        queue = queues.new_queue(aws)
        sent = [message(queue.url) for _ in range(3)]
        assert sqs.publish(sent[:1], timeout=TIMEOUT) == [None]

        child = os.fork()
        if child == 0:
            status = 1
            try:
                status = 0 if sqs.publish(sent[1:2], timeout=TIMEOUT) == [None] else 2
            finally:
                os._exit(status)
        assert os.waitpid(child, 0)[1] == 0

        assert sqs.publish(sent[2:], timeout=TIMEOUT) == [None]
        assert sorted(ids(aws, queue.url)) == sorted(one.id for one in sent)


class TestTheCheck:
    def test_finds_nothing_to_report(self, aws, sqs, new_sink):
        fifo = queues.new_queue(aws, fifo=True), queues.new_topic(aws, fifo=True)

        assert sqs.check([*fifo[0]], timeout=TIMEOUT) == []
        assert new_sink(SnsSink).check([fifo[1]], timeout=TIMEOUT) == []

    @pytest.mark.parametrize("backend", [SqsSink, SnsSink])
    def test_reports_a_standard_destination_of_an_ordered_sink(self, aws, new_sink, backend):
        sink = new_sink(backend)
        topic = queues.new_topic(aws) if backend is SnsSink else queues.new_queue(aws).name

        [problem] = sink.check([topic], timeout=TIMEOUT)
        sink.ordered = False

        assert "is standard, not FIFO" in problem
        assert "or set ORDERED to False." in problem
        assert sink.check([topic], timeout=TIMEOUT) == []

    def test_reports_a_queue_with_a_lower_size_limit(self, aws, sqs):
        queue = queues.new_queue(aws, fifo=True, MaximumMessageSize="2048")

        [problem] = sqs.check([queue.name], timeout=TIMEOUT)

        assert problem == (
            f'SQS queue "{queue.name}" accepts 2048 bytes, and the sink sends up to 1048576. '
            'Raise its MaximumMessageSize, or set "max_bytes" in OPTIONS.'
        )

    def test_reports_a_destination_that_depends_on_the_key(self, sqs):
        [problem] = sqs.check(["parcels-*"], timeout=TIMEOUT)

        assert "depends on the event's key, so it was not checked" in problem

    def test_reports_a_topic_without_arn(self, sns):
        assert "is no ARN" in sns.check(["parcels"], timeout=TIMEOUT)[0]


class TestTheOptions:
    @pytest.mark.parametrize("backend", [SqsSink, SnsSink])
    def test_refuse_an_unknown_name(self, backend):
        with pytest.raises(ImproperlyConfigured, match='unknown name "region"'):
            backend("audit", {"region": "eu-central-1"})

    def test_need_the_library(self):
        error = error_without("boto3", "outbox.sinks.aws.SqsSink")

        assert error == (
            'ImproperlyConfigured: The sink "audit" needs boto3 (extra "aws"). '
            "Install it: pip install boto3."
        )

    def test_may_configure_botocore_but_not_its_retries(self, aws, new_sink):
        sink = new_sink(
            SqsSink, config={"user_agent_extra": "shop", "retries": {"max_attempts": 9}}
        )
        queue = queues.new_queue(aws)

        assert sink.publish([message(queue.url)], timeout=TIMEOUT) == [None]

        [client] = sink._clients._clients.values()
        assert client.meta.config.user_agent_extra == "shop"
        assert client.meta.config.retries["total_max_attempts"] == 1
        assert client.meta.config.connect_timeout + client.meta.config.read_timeout <= TIMEOUT
