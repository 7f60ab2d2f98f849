"""Sabotage that a run must detect: `--sabotage NAME,NAME` removes safety parts.

unacknowledged           a sink takes each message for stored, whatever the system answers
new_ids                  a sink sends each attempt under an id of its own
early_acknowledgement    a source acknowledges messages before they are stored
undeduplicated           a source stores a message each time that it comes
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any
from uuid import uuid4

from outbox.sinks.base import SinkMessage
from outbox.sinks.redis_streams import RedisStreamSink
from outbox.sources.amqp import AmqpSource
from outbox.sources.base import ExternalMessage, ReceivedMessage
from outbox.sources.mapping import from_cloudevent

Settings = dict[str, dict[str, dict[str, Any]]]


class Unacknowledged(RedisStreamSink):
    def publish(
        self, messages: Sequence[SinkMessage], *, timeout: float
    ) -> Sequence[Exception | None]:
        """Send messages, and ignore the answers."""
        try:
            super().publish(messages, timeout=timeout)
        finally:
            return [None for _ in messages]  # noqa: B012  this is the sabotage


class NewIds(RedisStreamSink):
    def publish(
        self, messages: Sequence[SinkMessage], *, timeout: float
    ) -> Sequence[Exception | None]:
        """Send messages under new ids."""
        renamed = [replace(one, headers={**one.headers, "id": str(uuid4())}) for one in messages]
        return super().publish(renamed, timeout=timeout)


class EarlyAcknowledgement(AmqpSource):
    def receive(self, max_messages: int, *, timeout: float) -> Sequence[ReceivedMessage]:
        """Return the next messages, acknowledged."""
        found = super().receive(max_messages, timeout=timeout)
        super().acknowledge(found)
        return found

    def acknowledge(self, messages: Sequence[ReceivedMessage]) -> None:
        """Do nothing: that is done."""

    def release(self, messages: Sequence[ReceivedMessage]) -> None:
        """Do nothing: the system has forgotten them."""


def read_anew(message: ReceivedMessage) -> ExternalMessage | None:
    """Return the content of a message under an id of its own."""
    content = from_cloudevent(message, prefix="ce-", percent_encoded=False)
    return replace(content, id=f"{content.id} {uuid4().hex}"[:100])


def _put(part: str, name: str, key: str, value: object) -> Callable[[Settings], None]:
    def change(outbox: Settings) -> None:
        outbox[part][name][key] = value

    return change


_HERE = "tests.chaos.edges.sabotage"
_SABOTAGES: Mapping[str, Callable[[Settings], None]] = {
    "unacknowledged": _put("SINKS", "redis", "BACKEND", f"{_HERE}.Unacknowledged"),
    "new_ids": _put("SINKS", "redis", "BACKEND", f"{_HERE}.NewIds"),
    "early_acknowledgement": _put(
        "SOURCES", "from_amqp", "BACKEND", f"{_HERE}.EarlyAcknowledgement"
    ),
    "undeduplicated": _put("SOURCES", "from_nats", "MAPPER", f"{_HERE}.read_anew"),
}
NAMES = tuple(_SABOTAGES)


def sabotaged(names: str, outbox: Settings) -> Settings:
    """Return the settings without the safety parts, named with commas. "": with all of them."""
    for name in filter(None, names.split(",")):
        _SABOTAGES[name](outbox)
    return outbox
