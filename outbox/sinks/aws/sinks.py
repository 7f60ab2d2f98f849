"""Sinks of Amazon SNS and SQS: batches of ten, standard and FIFO.

A FIFO queue or topic has a name that ends in ".fifo". Its message group is the event's key, and its
deduplication id is the message's id. SNS and SQS acknowledge an id that they have stored within the
last five minutes, and discard the message.

SQS: https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SendMessageBatch.html
SNS: https://docs.aws.amazon.com/sns/latest/api/API_PublishBatch.html
"""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass
from typing import Any, ClassVar

from outbox.options import number
from outbox.receipt import PermanentFailure
from outbox.sinks.base import Encoding, Sink, SinkMessage, SinkUnavailable

from .clients import AwsClients, error_of
from .entries import Entry, entry_of, is_fifo
from .errors import AwsRefusal, is_about_the_message, sink_error

#: Most entries of one request, of both services.
ENTRIES = 10

Results = list[tuple[int, Exception | None]]


@dataclass(frozen=True)
class _Request:
    """One request: at most ten entries for one destination."""

    topic: str
    entries: Sequence[Entry]


class _AwsSink(Sink):
    """Publishes in parallel requests, each with at most ten messages and `max_bytes`.

    OPTIONS are the arguments of `boto3.session.Session.client`, and also `profile_name`, `config`
    (a dict for `botocore.config.Config`) and `max_bytes`. Requests are not repeated by botocore,
    since the outbox repeats them.
    """

    encoding: ClassVar[Encoding] = "structured"
    header_prefix: ClassVar[str] = ""
    structured_attributes: ClassVar[Sequence[str]] = ("id", "type", "source", "partitionkey")
    service: ClassVar[str]
    kind: ClassVar[str]

    def __init__(self, name: str, options: Mapping[str, Any]) -> None:
        super().__init__(name, options)
        assert self.max_bytes is not None
        self.max_bytes = number(f'the sink "{name}"', options, "max_bytes", self.max_bytes)
        self._clients = AwsClients(self.service, name, options)

    def publish(
        self, messages: Sequence[SinkMessage], *, timeout: float
    ) -> Sequence[Exception | None]:
        """Send the messages in parallel requests, and wait for their answers."""
        deadline = time.monotonic() + timeout
        late = SinkUnavailable(f"{self.service.upper()} has not answered in time.")
        results: list[Exception | None] = [late] * len(messages)
        entries = self._entries(messages, results)
        sent = [
            self._clients.submit(timeout, self._send, request, deadline)
            for request in self._requests(messages, entries)
        ]
        for index, result in _answers_until(deadline, sent):
            results[index] = result
        return results

    def check(self, topics: Sequence[str], *, timeout: float) -> Sequence[str]:
        """Ask for the attributes of each destination."""
        deadline = time.monotonic() + timeout
        problems: list[str] = []
        for topic in topics:
            problems += self._checked(topic, max(deadline - time.monotonic(), 0.1))
        return problems

    def close(self) -> None:
        """Close the connections of this process."""
        self._clients.close()

    def _entries(
        self, messages: Sequence[SinkMessage], results: list[Exception | None]
    ) -> list[Entry]:
        """Return the entries of the messages that can be sent; store the errors of the others."""
        entries = []
        for index, message in enumerate(messages):
            try:
                entry = entry_of(index, message)
                self._refuse_large(entry, self._label(message.topic))
            except PermanentFailure as error:
                results[index] = error
            else:
                entries.append(entry)
        return entries

    def _refuse_large(self, entry: Entry, label: str) -> None:
        assert self.max_bytes is not None
        if entry.size > self.max_bytes:
            raise PermanentFailure(
                f"The message has {entry.size} bytes, and {label} accepts {self.max_bytes}. "
                "Publish less data, or store it elsewhere and publish its address."
            )

    def _requests(
        self, messages: Sequence[SinkMessage], entries: Sequence[Entry]
    ) -> Iterator[_Request]:
        by_topic: dict[str, list[Entry]] = {}
        for entry in entries:
            by_topic.setdefault(messages[entry.index].topic, []).append(entry)
        for topic, its_entries in by_topic.items():
            for part in self._parts(its_entries):
                yield _Request(topic, part)

    def _parts(self, entries: Sequence[Entry]) -> Iterator[list[Entry]]:
        """Split by the limits of a request."""
        assert self.max_bytes is not None
        part: list[Entry] = []
        size = 0
        for entry in entries:
            if part and (len(part) == ENTRIES or size + entry.size > self.max_bytes):
                yield part
                part, size = [], 0
            part.append(entry)
            size += entry.size
        if part:
            yield part

    def _send(self, client: Any, request: _Request, deadline: float) -> Results:
        """Send one request. If it is refused for one of its messages, send each by itself."""
        try:
            answer = self._call(client, request)
        except Exception as error:
            reason = error_of(error, destination=self._label(request.topic))
        else:
            return self._results(request, answer)
        self._forget(request.topic)
        if len(request.entries) == 1 or not is_about_the_message(reason):
            return [(entry.index, reason) for entry in request.entries]
        return self._send_each(client, request, deadline)

    def _send_each(self, client: Any, request: _Request, deadline: float) -> Results:
        results: Results = []
        for entry in request.entries:
            if time.monotonic() >= deadline:
                break
            results += self._send(client, _Request(request.topic, [entry]), deadline)
        return results

    def _results(self, request: _Request, answer: Mapping[str, Any]) -> Results:
        """Return the result of each entry. One that the answer does not name is unknown."""
        label = self._label(request.topic)
        unknown = SinkUnavailable(f"{label} has not acknowledged the message.")
        results: dict[str, Exception | None] = {entry.id: unknown for entry in request.entries}
        results.update({one["Id"]: None for one in answer.get("Successful", ())})
        for one in answer.get("Failed", ()):
            results[one["Id"]] = sink_error(
                one.get("Code", ""),
                one.get("Message", ""),
                destination=label,
                sender_fault=bool(one.get("SenderFault")),
            )
        return [(entry.index, results[entry.id]) for entry in request.entries]

    def _checked(self, topic: str, seconds: float) -> list[str]:
        if "*" in topic:
            reason = "depends on the event's key, so it was not checked. Remove {key} from TOPIC."
            return [f"{self._label(topic)} {reason}"]
        try:
            return self._clients.submit(seconds, self._problems, topic).result(seconds)
        except TimeoutError:
            return [f"{self._label(topic)} has not answered in time."]
        except Exception as error:
            return [str(error_of(error, destination=self._label(topic)))]

    def _label(self, topic: str) -> str:
        return f'{self.kind} "{topic}"'

    def _forget(self, topic: str) -> None:
        """Forget what is known of a destination that has refused a request."""

    @abstractmethod
    def _call(self, client: Any, request: _Request) -> Mapping[str, Any]:
        """Send one request, and return its answer."""

    @abstractmethod
    def _problems(self, client: Any, topic: str) -> list[str]:
        """Return a sentence for each problem of one destination."""

    def _order_problem(self, topic: str) -> list[str]:
        if is_fifo(topic) or not self.ordered:
            return []
        return [
            f'{self._label(topic)} is standard, not FIFO, and the sink "{self.name}" is ordered. '
            "Consumers may receive events of one key in another order. Publish to a FIFO "
            f"{self.kind.split()[1]}, or set ORDERED to False."
        ]

    def _size_problem(self, topic: str, attributes: Mapping[str, str]) -> list[str]:
        assert self.max_bytes is not None
        limit = int(attributes.get("MaximumMessageSize", self.max_bytes))
        if limit >= self.max_bytes:
            return []
        return [
            f"{self._label(topic)} accepts {limit} bytes, and the sink sends up to "
            f'{self.max_bytes}. Raise its MaximumMessageSize, or set "max_bytes" in OPTIONS.'
        ]


class SqsSink(_AwsSink):
    """Sends messages to queues of SQS. `TOPIC` is a queue's URL, name or ARN."""

    service = "sqs"
    kind = "SQS queue"
    max_bytes = 1024 * 1024

    def __init__(self, name: str, options: Mapping[str, Any]) -> None:
        super().__init__(name, options)
        self._urls: dict[str, str] = {}

    def _call(self, client: Any, request: _Request) -> Mapping[str, Any]:
        answer: Mapping[str, Any] = client.send_message_batch(
            QueueUrl=self._url(client, request.topic),
            Entries=[
                {**entry.values(fifo=is_fifo(request.topic)), "MessageBody": entry.body}
                for entry in request.entries
            ],
        )
        return answer

    def _problems(self, client: Any, topic: str) -> list[str]:
        self._forget(topic)
        answer = client.get_queue_attributes(
            QueueUrl=self._url(client, topic), AttributeNames=["All"]
        )
        return self._order_problem(topic) + self._size_problem(topic, answer["Attributes"])

    def _url(self, client: Any, topic: str) -> str:
        """Return a queue's URL, which SQS knows by the queue's name and account."""
        if topic.startswith(("http://", "https://")):
            return topic
        if topic not in self._urls:
            self._urls[topic] = client.get_queue_url(**_queue_name(topic))["QueueUrl"]
        return self._urls[topic]

    def _forget(self, topic: str) -> None:
        self._urls.pop(topic, None)


class SnsSink(_AwsSink):
    """Publishes messages to topics of SNS. `TOPIC` is a topic's ARN."""

    service = "sns"
    kind = "SNS topic"
    max_bytes = 256 * 1024

    def _call(self, client: Any, request: _Request) -> Mapping[str, Any]:
        if not request.topic.startswith("arn:"):
            raise AwsRefusal(self._no_arn(request.topic))
        answer: Mapping[str, Any] = client.publish_batch(
            TopicArn=request.topic,
            PublishBatchRequestEntries=[
                {**entry.values(fifo=is_fifo(request.topic)), "Message": entry.body}
                for entry in request.entries
            ],
        )
        return answer

    def _problems(self, client: Any, topic: str) -> list[str]:
        if not topic.startswith("arn:"):
            return [self._no_arn(topic)]
        answer = client.get_topic_attributes(TopicArn=topic)
        return self._order_problem(topic) + self._size_problem(topic, answer["Attributes"])

    def _no_arn(self, topic: str) -> str:
        return f"{self._label(topic)} is no ARN. Set TOPIC to the topic's ARN."


def _queue_name(topic: str) -> dict[str, str]:
    """Return the arguments of GetQueueUrl for a name or for "arn:aws:sqs:region:account:name"."""
    parts = topic.split(":")
    if len(parts) != 6:
        return {"QueueName": topic}
    return {"QueueName": parts[5], "QueueOwnerAWSAccountId": parts[4]}


def _answers_until(deadline: float, sent: Sequence[Future[Results]]) -> Iterator[Any]:
    """Yield the results that are there by the deadline."""
    try:
        done, _late = wait(sent, timeout=max(deadline - time.monotonic(), 0))
    finally:
        for future in sent:  # those that wait for a thread are not sent any more
            future.cancel()
    for future in done:
        yield from future.result()
