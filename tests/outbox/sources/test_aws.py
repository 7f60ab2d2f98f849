"""The SQS source against a server."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from typing import Any
from uuid import uuid4

import pytest
from django.core.exceptions import ImproperlyConfigured

from outbox.sources.aws import SqsSource
from outbox.sources.base import SourceUnavailable
from tests.outbox.sources.contract import Send, SourceContract, bodies, received
from tests.processes import eventually
from tests.servers.aws import AwsServer


@pytest.fixture
def queue(aws: AwsServer) -> str:
    name = f"invoices-{uuid4().hex}"
    aws.client("sqs").create_queue(QueueName=name, Attributes={"VisibilityTimeout": "2"})
    return name


@pytest.fixture
def given(aws: AwsServer, queue: str) -> dict[str, Any]:
    backend = "outbox.sources.aws.SqsSource"
    return {"BACKEND": backend, "TOPICS": [queue], "OPTIONS": aws.options}


def seen_again_after(seconds: int, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings with which others see a received message after so many seconds."""
    return {**given, "OPTIONS": {**given["OPTIONS"], "visibility_timeout": seconds}}


@pytest.fixture
def send(aws: AwsServer, queue: str) -> Send:
    client = aws.client("sqs")
    url = client.get_queue_url(QueueName=queue)["QueueUrl"]

    def send(messages: list[bytes]) -> None:
        for one in messages:
            client.send_message(QueueUrl=url, MessageBody=one.decode())

    return send


class TestTheSqsSource(SourceContract):
    @pytest.fixture
    def given_to_killed(self, given: Mapping[str, Any]) -> dict[str, Any]:
        return seen_again_after(2, given)

    @pytest.mark.once
    def test_unwraps_messages_of_sns(self, aws, queue, source):
        sns, sqs = aws.client("sns"), aws.client("sqs")
        topic = sns.create_topic(Name=f"invoices-{uuid4().hex}")["TopicArn"]
        url = sqs.get_queue_url(QueueName=queue)["QueueUrl"]
        names = ["QueueArn"]
        arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]["QueueArn"]
        sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn)
        [body] = bodies(1)

        sns.publish(TopicArn=topic, Message=body.decode())

        [message] = received(source, 1)
        assert json.loads(message.body) == json.loads(body)

    @pytest.mark.once
    @pytest.mark.parametrize(
        "body",
        ["[" * 100_000, json.dumps({"Type": "Notification", "TopicArn": "x", "Message": "\ud83d"})],
        ids=["nested too deep", "half a character"],
    )
    def test_receives_a_body_that_cannot_be_unwrapped(self, source, send, body):
        send([body.encode(), *bodies(1)])

        assert len(received(source, 2)) == 2

    @pytest.mark.once
    def test_extends_the_visibility_while_a_batch_is_stored(
        self, given, settings, send, monkeypatch
    ):
        given = seen_again_after(4, given)
        first, second = self.new(given, settings), self.new(given, settings)
        extended: list[int] = []
        change = first.set_visibility  # type: ignore[attr-defined]  # an SqsSource

        def counted(messages: Any, seconds: int) -> None:
            change(messages, seconds)
            extended.append(seconds)

        monkeypatch.setattr(first, "set_visibility", counted)
        try:
            send(bodies(1))
            batch = received(first, 1)
            eventually(lambda: len(extended) > 3, "extensions beyond the first four seconds")
            assert second.receive(10, timeout=0.1) == []
            first.acknowledge(batch)
            assert first.lag() == 0
        finally:
            first.close()
            second.close()

    @pytest.mark.once
    def test_does_not_change_a_visibility_that_has_passed(self, given, settings, send, monkeypatch):
        """The messages may be in the hands of another process by then, or released by it."""
        given = seen_again_after(2, given)
        first, second = self.new(given, settings), self.new(given, settings)
        change = first.set_visibility  # type: ignore[attr-defined]  # an SqsSource
        is_down, changed = threading.Event(), threading.Event()

        def unavailable(messages: Any, seconds: int) -> None:
            if is_down.is_set():
                raise SourceUnavailable("Throttled")
            change(messages, seconds)
            changed.set()

        is_down.set()
        monkeypatch.setattr(first, "set_visibility", unavailable)
        try:
            send(bodies(1))
            batch = received(first, 1)
            received(second, 1)  # once the visibility has passed
            is_down.clear()
            extension = first._extension  # type: ignore[attr-defined]
            eventually(lambda: changed.is_set() or not extension.is_alive(), "a decision")
            first.release(batch)
            assert not changed.is_set()
        finally:
            first.close()
            second.close()

    @pytest.mark.once
    def test_names_no_credential_if_it_is_refused(self, given):
        options = {**given["OPTIONS"], "endpoint_url": "http://127.0.0.1:1"}
        source = SqsSource("billing", topics=["x"], group="", options=options)

        with pytest.raises(SourceUnavailable, match="cannot be reached") as caught:
            source.lag()

        assert "test-secret" not in str(caught.value)

    @pytest.mark.once
    def test_refuses_unknown_options(self):
        with pytest.raises(ImproperlyConfigured, match=r"boto3\.client"):
            SqsSource("billing", topics=["x"], group="", options={"region": "eu"})
