"""NATS source: a durable pull consumer of JetStream. nats-py is imported here only.

A message is acknowledged after the database's commit, and the server's answer is awaited. Without
it the message is delivered again after the consumer's `ack_wait`.
https://docs.nats.io/nats-concepts/jetstream/consumers
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from inspect import signature
from itertools import cycle
from typing import Any, ClassVar, TypeVar

from django.core.exceptions import ImproperlyConfigured

from outbox.options import number
from outbox.sinks.nats.subjects import covers, overlaps

from .base import ReceivedMessage, Source, SourceUnavailable

logger = logging.getLogger("outbox.sources.nats")

T = TypeVar("T")

#: Seconds for one request.
_REQUEST = 10.0
#: Seconds after which the server delivers a message again, unless the option sets others.
_ACK_WAIT = 60.0
#: Characters that the name of a consumer may not have.
_NOT_IN_NAMES = re.compile(r"[\s.*>/\\]")


class NatsSource(Source):
    """Receives the messages of subjects, through one durable consumer for each.

    `TOPICS` are subjects, and may have wildcards. Their streams must exist. `GROUP` begins the name
    of the consumers. A consumer is created unless one of the group receives the subject. `OPTIONS`
    are arguments of `nats.connect`, such as `servers`, `user_credentials` and `tls`, and `ack_wait`
    in seconds (60) of new consumers: messages of a killed process are delivered again after it.
    """

    percent_encoded: ClassVar[bool] = True
    needs_group: ClassVar[bool] = True
    max_batch: ClassVar[int] = 200

    def __init__(
        self, name: str, *, topics: Sequence[str], group: str, options: Mapping[str, Any]
    ) -> None:
        super().__init__(name, topics=topics, group=group, options=options)
        self._nats = _library()
        _refuse_bad_names(name, topics, group)
        self._arguments = {key: value for key, value in options.items() if key != "ack_wait"}
        known = signature(self._nats.NATS.connect).parameters.keys() - {"self", "error_cb"}
        if unknown := sorted(self._arguments.keys() - known):
            raise ImproperlyConfigured(
                f'OPTIONS of the source "{name}" has "{unknown[0]}", which is no argument of '
                "nats.connect, or the source's own. Correct it."
            )
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
            jetstream = await self._connected()
            stream = await jetstream.find_stream_name_by_subject(topic)
            durable = await self._durable(jetstream, stream, topic)
            config = self._nats.js.api.ConsumerConfig(
                ack_wait=self._ack_wait, max_ack_pending=10_000
            )
            self._consumers[topic] = await jetstream.pull_subscribe(
                topic, durable=durable, stream=stream, config=config
            )
        return self._consumers[topic]

    async def _durable(self, jetstream: Any, stream: str, topic: str) -> str:
        """Return the consumer that receives the subject, or the name of a new one.

        A new consumer begins with the oldest message. So it may not receive what another one of the
        group receives. The server can change a filter, but a consumer has skipped the messages
        before its position that the old filter excluded.
        https://github.com/nats-io/nats-server/issues/7268

        Raises:
            SourceUnavailable: a consumer of the group receives a part of the subject.
        """
        named = f"{self.group}-{_plain(topic)}"
        known = [await self._info(jetstream, stream, name) for name in (self.group, named)]
        if found := _receiver(topic, filter(None, known)):
            return found
        own = [one for one in await _consumers(jetstream, stream) if self._is_own(one)]
        if found := _receiver(topic, own):
            return found
        has_group = any(one.name == self.group for one in own)
        new = named if has_group or len(self.topics) > 1 else self.group
        for one in own:
            if one.name == new or any(overlaps(each, topic) for each in _filters(one)):
                raise self._in_part(one, topic)
        return new

    async def _info(self, jetstream: Any, stream: str, name: str) -> Any:
        try:
            return await jetstream.consumer_info(stream, name)
        except self._nats.js.errors.NotFoundError:
            return None

    def _is_own(self, consumer: Any) -> bool:
        """Return whether it is a consumer of the group: other groups may begin with its name."""
        named = [f"{self.group}-{_plain(one)}" for one in _filters(consumer)]
        return consumer.name in (self.group, *named)

    def _in_part(self, consumer: Any, topic: str) -> SourceUnavailable:
        return SourceUnavailable(
            f"The consumer {consumer.name} of the source {self.name} receives "
            f"{', '.join(_filters(consumer))}, but TOPICS has {topic}. Keep the old subjects and "
            "add only others, or set another GROUP and create its consumers so that they begin "
            "after this one. The source creates consumers that begin with the oldest message."
        )

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
        found = [await (await self._consumer(topic)).consumer_info() for topic in self.topics]
        # One consumer may receive several subjects.
        each = {(one.stream_name, one.name): one for one in found}.values()
        return sum((one.num_pending or 0) + (one.num_ack_pending or 0) for one in each)

    async def _check(self) -> list[str]:
        jetstream, problems = await self._connected(), []
        for topic in self.topics:
            try:
                stream = await jetstream.find_stream_name_by_subject(topic)
                await self._durable(jetstream, stream, topic)
            except self._nats.js.errors.NotFoundError:
                problems.append(
                    f"No stream has the subject {topic} of the source {self.name}. Create one, or "
                    "correct TOPICS."
                )
            except SourceUnavailable as problem:
                problems.append(str(problem))
        return problems


def _library() -> Any:
    try:
        import nats
        import nats.errors
        import nats.js.errors
    except ImportError as error:
        raise ImproperlyConfigured('The NATS source needs nats-py (extra "nats").') from error
    return nats


def _refuse_bad_names(name: str, topics: Sequence[str], group: str) -> None:
    """Raise `ImproperlyConfigured` if consumers would have no legal name, or the same one."""
    if _NOT_IN_NAMES.search(group):
        raise ImproperlyConfigured(
            f'GROUP of the source "{name}" begins the names of consumers in NATS, which have no '
            r'space, ".", "*", ">", "/" or "\". Remove these.'
        )
    by_name: dict[str, str] = {}
    for topic in topics:
        other = by_name.setdefault(_plain(topic), topic)
        if other != topic:
            raise ImproperlyConfigured(
                f'TOPICS of the source "{name}" has {other} and {topic}, whose consumers would '
                "have the same name. Receive one of them in another source."
            )


def _plain(topic: str) -> str:
    """Return a subject as a part of a consumer's name."""
    return "".join(one if one.isalnum() or one in "-_" else "_" for one in topic)


async def _consumers(jetstream: Any, stream: str) -> list[Any]:
    """Return all consumers of a stream. The server lists them by pages."""
    found: list[Any] = []
    while page := await jetstream.consumers_info(stream, offset=len(found)):
        found += page
    return found


def _filters(consumer: Any) -> list[str]:
    """Return the subjects that a consumer receives."""
    config = consumer.config
    return list(config.filter_subjects or [config.filter_subject or ">"])


def _receiver(topic: str, consumers: Iterable[Any]) -> str:
    """Return the name of the consumer that receives the whole subject; "": none does.

    Several may, if TOPICS was changed. What the furthest one has acknowledged is stored.
    """
    found = [one for one in consumers if any(covers(each, topic) for each in _filters(one))]
    if not found:
        return ""
    best = max(found, key=lambda one: (one.ack_floor.stream_seq, _filters(one) == [topic]))
    return str(best.name)


def _received(message: Any) -> ReceivedMessage:
    metadata = message.metadata
    return ReceivedMessage(
        position=f"{metadata.stream}/{metadata.sequence.stream}",
        topic=message.subject,
        headers={name.lower(): value for name, value in (message.headers or {}).items()},
        body=message.data,
        handle=message,
    )
