"""Problems of the streams that a sink publishes to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from .subjects import covers, with_whole_wildcards

if TYPE_CHECKING:
    from outbox.sinks.base import Sink

    from .connection import Connection

#: Seconds. The default of JetStream; a retry may come as late.
SHORTEST_WINDOW = 120.0


async def problems_of(
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
    if (stream.duplicate_window or 0) < SHORTEST_WINDOW:
        yield (
            f"{name} recognises a repeated message for {stream.duplicate_window:g} seconds. A "
            "later retry is stored twice. Set its duplicate window to 2 minutes or more."
        )
    if sink.max_bytes is not None and 0 < (stream.max_msg_size or 0) < sink.max_bytes:
        yield (
            f"{name} accepts {stream.max_msg_size} bytes, and the sink sends up to "
            f'{sink.max_bytes}. Raise its maximum message size, or set "max_bytes" in OPTIONS.'
        )
