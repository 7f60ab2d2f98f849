"""SQS source: long polling of queues. boto3 is imported here only.

A message is deleted after the database's commit. Until then it is invisible to other processes, for
the queue's visibility timeout. A thread extends that time until the messages are stored.
https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import cycle
from typing import Any, ClassVar

from django.core.exceptions import ImproperlyConfigured

from outbox.options import number

from .base import ReceivedMessage, Source, SourceUnavailable

logger = logging.getLogger("outbox.sources.aws")

#: Most messages in one request, by the API.
_AT_ONCE = 10
#: Seconds for which received messages are invisible to others, unless the option sets others.
_VISIBILITY = 60
#: Longest wait of one request, in seconds, by the API.
_LONGEST_WAIT = 20


class SqsSource(Source):
    """Receives the messages of queues.

    `TOPICS` are queue URLs, or names of queues of the account. `OPTIONS` are arguments of
    `boto3.client("sqs", ...)`, and `visibility_timeout` in seconds (60): messages of a killed
    process become visible to others after it. CloudEvents are structured, since SQS allows ten
    attributes only. A message that SNS delivered without raw delivery is unwrapped.
    """

    max_batch: ClassVar[int] = _AT_ONCE

    def __init__(
        self, name: str, *, topics: Sequence[str], group: str, options: Mapping[str, Any]
    ) -> None:
        super().__init__(name, topics=topics, group=group, options=options)
        others = {key: value for key, value in options.items() if key != "visibility_timeout"}
        self._sqs, self._errors = _client(name, others)
        owner = f'the source "{name}"'
        self.visibility = number(owner, options, "visibility_timeout", _VISIBILITY)
        self._urls: dict[str, str] = {}
        self._next = cycle(topics)
        self._extension: _Extension | None = None

    def receive(self, max_messages: int, *, timeout: float) -> Sequence[ReceivedMessage]:
        """Return messages of the next queue that has some."""
        wait = min(_LONGEST_WAIT, max(1, round(timeout))) if len(self.topics) == 1 else 0
        for _ in self.topics:
            queue = next(self._next)
            answer = self._request(
                "receive_message",
                queue,
                QueueUrl=self._url(queue),
                MaxNumberOfMessages=min(max_messages, _AT_ONCE),
                WaitTimeSeconds=wait,
                VisibilityTimeout=self.visibility,
                MessageAttributeNames=["All"],
                AttributeNames=["All"],
            )
            if found := [_received(queue, one) for one in answer.get("Messages", ())]:
                self._extension = _Extension(self, found)
                return found
        if not wait:
            threading.Event().wait(min(timeout, 1.0))
        return []

    def acknowledge(self, messages: Sequence[ReceivedMessage]) -> None:
        """Delete the messages. One that cannot be deleted is received again, and dropped."""
        self._end_extension()
        for queue, entries in _entries(messages):
            answer = self._request(
                "delete_message_batch", queue, QueueUrl=self._url(queue), Entries=entries
            )
            for failed in answer.get("Failed", ()):
                logger.info("%s: a message was not deleted: %s", self.name, failed.get("Code"))

    def release(self, messages: Sequence[ReceivedMessage]) -> None:
        """Make the messages visible again, unless they have become so."""
        extension = self._extension
        self._end_extension()
        if extension is None or not extension.has_passed:
            self.set_visibility(messages, 0)

    def set_visibility(self, messages: Sequence[ReceivedMessage], seconds: int) -> None:
        """Let the messages become visible to others after so many seconds."""
        for queue, entries in _entries(messages):
            self._request(
                "change_message_visibility_batch",
                queue,
                QueueUrl=self._url(queue),
                Entries=[{**one, "VisibilityTimeout": seconds} for one in entries],
            )

    def lag(self) -> int | None:
        """Return the approximate number of messages in the queues."""
        return sum(self._depth(queue) for queue in self.topics)

    def check(self, *, timeout: float) -> Sequence[str]:
        """Ask for the attributes of each queue."""
        problems = []
        for queue in self.topics:
            try:
                self._depth(queue)
            except SourceUnavailable as error:
                problems.append(str(error))
        return problems

    def close(self) -> None:
        """Close the connections."""
        self._end_extension()
        self._sqs.close()

    def _depth(self, queue: str) -> int:
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        url = self._url(queue)
        answer = self._request("get_queue_attributes", queue, QueueUrl=url, AttributeNames=names)
        return sum(int(answer["Attributes"][name]) for name in names)

    def _url(self, queue: str) -> str:
        if "://" in queue:
            return queue
        if queue not in self._urls:
            self._urls[queue] = self._request("get_queue_url", queue, QueueName=queue)["QueueUrl"]
        return self._urls[queue]

    def _request(self, name: str, queue: str, **arguments: Any) -> Any:
        try:
            return getattr(self._sqs, name)(**arguments)
        except self._errors.ClientError as error:
            code = error.response.get("Error", {}).get("Code", "?")
            raise SourceUnavailable(
                f"SQS refuses {name} of the queue {queue} of the source {self.name}: {code}. Check "
                "that the queue exists, and the permissions of the credentials."
            ) from None
        except self._errors.BotoCoreError as error:
            raise SourceUnavailable(
                f"SQS cannot be reached for the queue {queue} of the source {self.name} "
                f"({type(error).__name__}). Check its region, endpoint and credentials."
            ) from None

    def _end_extension(self) -> None:
        extension, self._extension = self._extension, None
        if extension is not None:
            extension.end()


class _Extension(threading.Thread):
    """Keeps the messages in hand invisible to other processes.

    It ends once their visibility has passed, after failed requests or a suspension: another process
    may have received them since then.
    """

    def __init__(self, source: SqsSource, messages: Sequence[ReceivedMessage]) -> None:
        super().__init__(name="outbox-sqs-visibility", daemon=True)
        self._source, self._messages = source, messages
        self._ended = threading.Event()
        self._passes_at = time.monotonic() + source.visibility
        self.start()

    @property
    def has_passed(self) -> bool:
        """Whether the messages may be visible, or in the hands of another process."""
        return time.monotonic() >= self._passes_at

    def run(self) -> None:
        visibility = self._source.visibility
        while not self._ended.wait(visibility / 3) and not self.has_passed:
            asked_at = time.monotonic()
            try:
                self._source.set_visibility(self._messages, visibility)
                self._passes_at = asked_at + visibility
            except SourceUnavailable as error:  # others may get them, and drop them as duplicates
                logger.info("%s", error)

    def end(self) -> None:
        self._ended.set()
        self.join()


def _client(name: str, options: Mapping[str, Any]) -> tuple[Any, Any]:
    try:
        import boto3
        from botocore import exceptions
    except ImportError as error:
        raise ImproperlyConfigured('The SQS source needs boto3 (extra "aws").') from error
    try:
        return boto3.client("sqs", **options), exceptions
    except (TypeError, ValueError, exceptions.BotoCoreError) as error:
        raise ImproperlyConfigured(
            f'OUTBOX["SOURCES"]["{name}"]["OPTIONS"] are no arguments of boto3.client: '
            f"{type(error).__name__}."
        ) from None


def _entries(messages: Iterable[ReceivedMessage]) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Yield queues, and entries of a batch request with at most ten receipts."""
    by_queue: dict[str, list[str]] = {}
    for one in messages:
        by_queue.setdefault(one.topic, []).append(one.handle)
    for queue, handles in by_queue.items():
        for start in range(0, len(handles), _AT_ONCE):
            some = enumerate(handles[start : start + _AT_ONCE])
            yield queue, [{"Id": str(index), "ReceiptHandle": handle} for index, handle in some]


def _received(queue: str, message: Mapping[str, Any]) -> ReceivedMessage:
    body = message["Body"]
    attributes = message.get("MessageAttributes", {})
    return ReceivedMessage(
        position=message["MessageId"],
        topic=queue,
        key=message.get("Attributes", {}).get("MessageGroupId", ""),
        headers={name.lower(): one.get("StringValue", "") for name, one in attributes.items()},
        body=_unwrapped(body).encode("utf-8", "surrogatepass"),
        handle=message["ReceiptHandle"],
    )


def _unwrapped(body: str) -> str:
    """Return the message within the envelope of SNS; other bodies as they are."""
    try:
        whole = json.loads(body)
    except (ValueError, RecursionError):  # no JSON, or too deep
        return body
    is_of_sns = isinstance(whole, dict) and whole.get("Type") == "Notification"
    if is_of_sns and "TopicArn" in whole and isinstance(whole.get("Message"), str):
        return str(whole["Message"])
    return body
