"""Sink of NATS JetStream.

A message's id is the header `Nats-Msg-Id`. A stream acknowledges an id that it has stored within
its duplicate window, two minutes by default, and discards the message.

JetStream: https://docs.nats.io/nats-concepts/jetstream/streams
CloudEvents: https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/nats-protocol-binding.md
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from importlib.util import find_spec
from typing import Any, ClassVar

from django.core.exceptions import ImproperlyConfigured

from outbox.options import number
from outbox.receipt import PermanentFailure
from outbox.sinks.base import Sink, SinkMessage, SinkUnavailable

from .connection import Connection, Connections
from .errors import NatsRefusal, error_of
from .subjects import covers, refuse_bad_subject, token, with_whole_wildcards

with suppress(ImportError):  # reported when the sink is created
    import nats.js.errors

MESSAGE_ID = "Nats-Msg-Id"
#: Seconds. The default of JetStream; a retry may come as late.
_SHORTEST_WINDOW = 120.0

#: Arguments of `nats.connect` that a sink may set. The others are its own.
CONNECT_OPTIONS = frozenset(
    {
        "flush_timeout",
        "inbox_prefix",
        "max_outstanding_pings",
        "name",
        "nkeys_seed",
        "nkeys_seed_str",
        "password",
        "ping_interval",
        "signature_cb",
        "tls",
        "tls_handshake_first",
        "tls_hostname",
        "token",
        "user",
        "user_credentials",
        "user_jwt_cb",
        "ws_connection_headers",
    }
)
OTHER_OPTIONS = frozenset({"domain", "max_bytes", "servers"})


class NatsSink(Sink):
    """Publishes to the streams of JetStream. `TOPIC` is a subject.

    OPTIONS: `servers` (one URL or a list), `domain` (of JetStream), `max_bytes` (the servers'
    `max_payload`, 1 MiB unless it is set), and arguments of `nats.connect`. The messages of a call
    are published together, and each is acknowledged by its stream.
    """

    percent_encoded: ClassVar[bool] = True
    max_bytes = 1024 * 1024

    def __init__(self, name: str, options: Mapping[str, Any]) -> None:
        super().__init__(name, options)
        if find_spec("nats") is None:
            raise ImproperlyConfigured(
                f'The sink "{name}" needs nats-py (extra "nats"). Install it: pip install nats-py.'
            )
        if unknown := sorted(set(options) - CONNECT_OPTIONS - OTHER_OPTIONS):
            raise ImproperlyConfigured(
                f'OPTIONS of the sink "{name}" has the unknown name "{unknown[0]}". Its names: '
                f"{', '.join(sorted(CONNECT_OPTIONS | OTHER_OPTIONS))}."
            )
        assert self.max_bytes is not None
        self.max_bytes = number(f'the sink "{name}"', options, "max_bytes", self.max_bytes)
        given = options.get("servers", "nats://localhost:4222")
        servers = [given] if isinstance(given, str) else list(given)
        arguments = {key: options[key] for key in CONNECT_OPTIONS & set(options)}
        self._connections = Connections(name, servers, arguments)

    @classmethod
    def key_in_topic(cls, key: str) -> str:
        """Return a key as one token of a subject."""
        return token(key)

    def publish(
        self, messages: Sequence[SinkMessage], *, timeout: float
    ) -> Sequence[Exception | None]:
        """Publish all messages, then wait for the acknowledgement of each."""

        async def publish(connection: Connection, deadline: float) -> list[Exception | None]:
            return await self._publish(connection, messages, deadline)

        return self._connections.call(publish, timeout=timeout)

    def check(self, topics: Sequence[str], *, timeout: float) -> Sequence[str]:
        """Ask for the streams that store these subjects."""

        async def problems(connection: Connection, deadline: float) -> list[str]:
            context = self._context(connection, deadline)
            return await _problems_of(self, connection, context, topics)

        try:
            return self._connections.call(problems, timeout=timeout)
        except SinkUnavailable as error:
            return [str(error)]

    def close(self) -> None:
        """Close the connection of this process."""
        self._connections.close()

    async def _publish(
        self, connection: Connection, messages: Sequence[SinkMessage], deadline: float
    ) -> list[Exception | None]:
        context = self._context(connection, deadline)
        tasks = [
            asyncio.create_task(self._result(connection, context, message)) for message in messages
        ]
        try:
            await _until_done(tasks, connection, seconds=max(deadline - time.monotonic(), 0))
            return [
                task.result() if task.done() else self._unknown(connection, message)
                for task, message in zip(tasks, messages, strict=True)
            ]
        finally:  # also if the caller's time limit cancels this
            if not all(task.done() for task in tasks):
                for task in tasks:
                    task.cancel()
                self._connections.drop()

    async def _result(
        self, connection: Connection, context: Any, message: SinkMessage
    ) -> Exception | None:
        """Publish one message. Return None once it is acknowledged, also as a duplicate."""
        headers = {**message.headers, MESSAGE_ID: message.id}
        try:
            refuse_bad_subject(message.topic)
            self._refuse_large(connection, message, headers)
            await context.publish(message.topic, message.body, headers=headers)
        except nats.js.errors.NoStreamResponseError:
            return await self._no_response(context, message.topic)
        except Exception as error:
            return error_of(error, subject=message.topic)
        return None

    async def _no_response(self, context: Any, subject: str) -> Exception:
        """Return the error for a subject that no stream answers for: it has none, or no leader."""
        try:
            await context.find_stream_name_by_subject(subject)
        except nats.js.errors.NotFoundError:
            return NatsRefusal(
                f'No stream of JetStream stores the subject "{subject}". Create one, or correct '
                "TOPIC."
            )
        except Exception:
            return SinkUnavailable(
                f'Nothing answers for the subject "{subject}". Check that JetStream is enabled '
                "for this account."
            )
        return SinkUnavailable(f'The stream of the subject "{subject}" does not answer.')

    def _refuse_large(
        self, connection: Connection, message: SinkMessage, headers: Mapping[str, str]
    ) -> None:
        """Refuse a message for which the server would close the connection."""
        limit = min(connection.client.max_payload, self.max_bytes)
        size = len(message.body) + _header_bytes(headers)
        if size > limit:
            raise PermanentFailure(
                f"The message has {size} bytes with its headers, and the NATS server or the sink "
                f'"{self.name}" accepts {limit}. Publish less data, or raise max_payload and '
                '"max_bytes" in OPTIONS.'
            )

    def _unknown(self, connection: Connection, message: SinkMessage) -> SinkUnavailable:
        if connection.refusal:
            return SinkUnavailable(f"NATS refuses a permission: {connection.refusal}.")
        if connection.lost.is_set():
            return SinkUnavailable("The connection to NATS has ended before the acknowledgement.")
        return SinkUnavailable(f'No acknowledgement for the subject "{message.topic}" in time.')

    def _context(self, connection: Connection, deadline: float) -> Any:
        seconds = max(deadline - time.monotonic(), 0.01)
        domain = self.options.get("domain")
        return connection.client.jetstream(timeout=seconds, domain=domain)


async def _until_done(
    tasks: Sequence[asyncio.Task[Any]], connection: Connection, *, seconds: float
) -> None:
    """Wait for the tasks, but no longer than this, and not after the end of the connection."""
    everything = asyncio.create_task(asyncio.wait(tasks))
    lost = asyncio.create_task(connection.lost.wait())
    waits: list[asyncio.Task[Any]] = [everything, lost]
    try:
        await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for one in waits:
            one.cancel()


def _header_bytes(headers: Mapping[str, str]) -> int:
    """Return the bytes of the headers in the protocol: a line each, a first and an empty line."""
    lines = sum(len(name.encode()) + len(value.encode()) + 4 for name, value in headers.items())
    return len(b"NATS/1.0\r\n") + lines + len(b"\r\n")


async def _problems_of(
    sink: Sink, connection: Connection, context: Any, topics: Sequence[str]
) -> list[str]:
    """Return a sentence for each problem of the server and of the streams of these subjects."""
    problems = list(_server_problems(sink, connection))
    try:
        streams = await _streams(context)
    except Exception as error:
        return [
            *problems,
            f"The streams of JetStream cannot be listed ({type(error).__name__}). Enable JetStream "
            "for this account, or permit its API.",
        ]
    for topic in topics:
        problems += _topic_problems(sink, streams, with_whole_wildcards(topic))
    return list(dict.fromkeys(problems))


async def _streams(context: Any) -> list[Any]:
    """Return the configurations of all streams; the server lists them in pages."""
    found: list[Any] = []
    while page := await context.streams_info(offset=len(found)):
        found += [stream.config for stream in page]
    return found


def _server_problems(sink: Sink, connection: Connection) -> Iterator[str]:
    limit = connection.client.max_payload
    if sink.max_bytes is not None and limit < sink.max_bytes:
        yield (
            f"The NATS server accepts {limit} bytes, and the sink sends up to {sink.max_bytes}. "
            'Raise max_payload, or set "max_bytes" in OPTIONS.'
        )


def _topic_problems(sink: Sink, streams: Sequence[Any], subject: str) -> Iterator[str]:
    stores = [
        stream
        for stream in streams
        if any(covers(pattern, subject) for pattern in stream.subjects or ())
    ]
    if not stores:
        yield (
            f'No stream of JetStream stores the subject "{subject}". Create one, or correct TOPIC.'
        )
    for stream in stores:
        yield from _stream_problems(sink, stream)


def _stream_problems(sink: Sink, stream: Any) -> Iterator[str]:
    name = f'The stream "{stream.name}"'
    if stream.no_ack:
        yield f"{name} acknowledges nothing, so no delivery is ever done. Unset no_ack."
    if stream.sealed:
        yield f"{name} is sealed, so it accepts no message. Publish to another stream."
    if (stream.duplicate_window or 0) < _SHORTEST_WINDOW:
        yield (
            f"{name} recognises a repeated message for {stream.duplicate_window:g} seconds. A "
            "later retry is stored twice. Set its duplicate window to 2 minutes or more."
        )
    if sink.max_bytes is not None and 0 < (stream.max_msg_size or 0) < sink.max_bytes:
        yield (
            f"{name} accepts {stream.max_msg_size} bytes, and the sink sends up to "
            f'{sink.max_bytes}. Raise its maximum message size, or set "max_bytes" in OPTIONS.'
        )
