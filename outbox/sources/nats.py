"""NATS source: a durable pull consumer of JetStream. nats-py is imported here only.

A message is acknowledged after the database's commit, and the server's answer is awaited. Without
it the message is delivered again after the consumer's `ack_wait`.
https://docs.nats.io/nats-concepts/jetstream/consumers
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Mapping, Sequence
from itertools import cycle
from typing import Any, ClassVar, TypeVar

from django.core.exceptions import ImproperlyConfigured

from outbox.options import number

from .base import ReceivedMessage, Source, SourceUnavailable

logger = logging.getLogger("outbox.sources.nats")

T = TypeVar("T")

#: Seconds for one request.
_REQUEST = 10.0
#: Seconds after which the server delivers a message again, unless the option sets others.
_ACK_WAIT = 60.0


class NatsSource(Source):
    """Receives the messages of subjects, through one durable consumer for each.

    `TOPICS` are subjects, and may have wildcards. Their streams must exist. `GROUP` begins the name
    of the consumers, which are created unless they exist. `OPTIONS` are arguments of
    `nats.connect`, such as `servers`, `user_credentials` and `tls`, and `ack_wait` in seconds (60)
    of new consumers: messages of a killed process are delivered again after it.
    """

    percent_encoded: ClassVar[bool] = True
    needs_group: ClassVar[bool] = True
    max_batch: ClassVar[int] = 200

    def __init__(
        self, name: str, *, topics: Sequence[str], group: str, options: Mapping[str, Any]
    ) -> None:
        super().__init__(name, topics=topics, group=group, options=options)
        self._nats = _library()
        self._arguments = {key: value for key, value in options.items() if key != "ack_wait"}
        self._ack_wait = number(f'the source "{name}"', options, "ack_wait", _ACK_WAIT)
        self._loop = asyncio.new_event_loop()
        self._client: Any = None
        self._consumers: dict[str, Any] = {}
        self._next = cycle(topics)

    def receive(self, max_messages: int, *, timeout: float) -> Sequence[ReceivedMessage]:
        """Return messages of the next subject that has some."""
        return self._run(self._receive(max_messages, timeout))

    def acknowledge(self, messages: Sequence[ReceivedMessage]) -> None:
        """Acknowledge all messages, and wait for the server's answers."""
        self._run(self._acknowledge(messages))

    def release(self, messages: Sequence[ReceivedMessage]) -> None:
        """Let the server deliver the messages again, now."""
        self._run(self._release(messages))

    def hold(self, messages: Sequence[ReceivedMessage]) -> None:
        """Let the server wait longer for the acknowledgements."""
        self._run(self._hold(messages))

    def keep_alive(self) -> None:
        """Answer the server's pings."""
        if self._client is not None:
            self._run(self._client.flush(timeout=_REQUEST))

    def lag(self) -> int | None:
        """Return the number of messages that no process has acknowledged."""
        return self._run(self._lag())

    def check(self, *, timeout: float) -> Sequence[str]:
        """Ask for the stream of each subject."""
        return self._run(self._check())

    def close(self) -> None:
        """Close the connection."""
        client, self._client, self._consumers = self._client, None, {}
        try:
            if client is not None:
                self._loop.run_until_complete(asyncio.wait_for(client.close(), _REQUEST))
        finally:
            self._loop.close()

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        try:
            return self._loop.run_until_complete(work)
        except (self._nats.errors.Error, OSError, TimeoutError) as error:
            raise SourceUnavailable(
                f"NATS does not serve the source {self.name} ({type(error).__name__}). Check that "
                "it runs, its address and credentials, and that a stream has the subjects "
                f"{', '.join(self.topics)}."
            ) from None

    async def _connected(self) -> Any:
        if self._client is None:
            self._client = await self._nats.connect(
                **{"connect_timeout": _REQUEST, "allow_reconnect": False, **self._arguments},
                error_cb=self._log,
            )
        return self._client.jetstream(timeout=_REQUEST)

    async def _log(self, error: Exception) -> None:
        logger.info("%s: %s", self.name, type(error).__name__)

    async def _consumer(self, topic: str) -> Any:
        if topic not in self._consumers:
            stream = await self._connected()
            config = self._nats.js.api.ConsumerConfig(
                ack_wait=self._ack_wait, max_ack_pending=10_000
            )
            self._consumers[topic] = await stream.pull_subscribe(
                topic, durable=self._durable(topic), config=config
            )
        return self._consumers[topic]

    def _durable(self, topic: str) -> str:
        plain = "".join(one if one.isalnum() or one in "-_" else "_" for one in topic)
        return f"{self.group}-{plain}" if len(self.topics) > 1 else self.group

    async def _receive(self, most: int, timeout: float) -> list[ReceivedMessage]:
        for _ in self.topics:
            topic = next(self._next)
            consumer = await self._consumer(topic)
            try:
                found = await consumer.fetch(most, timeout=max(0.1, timeout / len(self.topics)))
            except (self._nats.errors.TimeoutError, TimeoutError):
                if self._client.is_closed:
                    raise
                continue
            return [_received(one) for one in found]
        return []

    async def _acknowledge(self, messages: Sequence[ReceivedMessage]) -> None:
        await asyncio.gather(*(one.handle.ack_sync(timeout=_REQUEST) for one in messages))

    async def _release(self, messages: Sequence[ReceivedMessage]) -> None:
        for one in messages:
            await one.handle.nak()
        await self._client.flush(timeout=_REQUEST)

    async def _hold(self, messages: Sequence[ReceivedMessage]) -> None:
        for one in messages:
            await one.handle.in_progress()
        await self._client.flush(timeout=_REQUEST)

    async def _lag(self) -> int:
        total = 0
        for topic in self.topics:
            found = await (await self._consumer(topic)).consumer_info()
            total += (found.num_pending or 0) + (found.num_ack_pending or 0)
        return total

    async def _check(self) -> list[str]:
        stream, problems = await self._connected(), []
        for topic in self.topics:
            try:
                await stream.find_stream_name_by_subject(topic)
            except self._nats.js.errors.NotFoundError:
                problems.append(
                    f"No stream has the subject {topic} of the source {self.name}. Create one, or "
                    "correct TOPICS."
                )
        return problems


def _library() -> Any:
    try:
        import nats
        import nats.errors
        import nats.js.errors
    except ImportError as error:
        raise ImproperlyConfigured('The NATS source needs nats-py (extra "nats").') from error
    return nats


def _received(message: Any) -> ReceivedMessage:
    metadata = message.metadata
    return ReceivedMessage(
        position=f"{metadata.stream}/{metadata.sequence.stream}",
        topic=message.subject,
        headers={name.lower(): value for name, value in (message.headers or {}).items()},
        body=message.data,
        handle=message,
    )
