"""Messages that are stored as received: those that cannot be read, and those of an unknown type.

Their handler (`reading_again.py`) reads the message again. An unreadable one becomes a dead letter,
which a person corrects, retries or discards like any other. One of an unknown type is done without
an effect. After a release that declares the type, `manage.py outbox replay` reads it again.
"""

from __future__ import annotations

from base64 import b64encode
from typing import Any, Literal

from django.utils.translation import gettext as _

from outbox.events import DomainEvent
from outbox.privacy.marks import Sensitive
from outbox.storable import storable_text

from .base import ReceivedMessage

Encoding = Literal["text", "base64", "omitted"]

#: Pinned name of the handler of stored messages.
HANDLER = "outbox.read_message"


class StoredMessage(DomainEvent):
    """A message as it was received.

    Attributes:
        external_id: identity of the message in the table of received messages.
        encoding: of the body: "omitted" if it was larger than `MAX_BYTES` of the source.
        size: bytes of the received body.
        unknown_type: the message's type if no external event declared it, or "".
    """

    external_id: str
    source: str
    position: str
    topic: str
    partition_key: Sensitive[str] = ""
    headers: Sensitive[dict[str, str]]
    body: Sensitive[str]
    encoding: Encoding = "text"
    size: int = 0
    unknown_type: str = ""


class UnreadableMessageReceived(StoredMessage, key="external_id"):
    """A source received a message that cannot be read, and stored it as it was received."""

    def in_words(self) -> str:
        """Name the source."""
        return _("Unreadable message received by the source %s") % self.source


class UnknownMessageReceived(StoredMessage, key="external_id"):
    """A source received a message of a type that no external event declares, and kept it."""

    def in_words(self) -> str:
        """Name the source and the type."""
        text = _("Message of the unknown type %(type)s received by the source %(source)s")
        return text % {"type": self.unknown_type or "-", "source": self.source}


STORED_MESSAGES = (UnreadableMessageReceived.event_name, UnknownMessageReceived.event_name)


def as_received(
    event: type[StoredMessage],
    message: ReceivedMessage,
    *,
    source: str,
    external_id: str,
    max_bytes: int,
    unknown_type: str = "",
) -> StoredMessage:
    """Return the event that holds a message as it was received. Every database can store it."""
    is_omitted = len(message.body) > max_bytes
    omitted = {"body": "", "encoding": "omitted", "size": len(message.body)}
    return event(
        external_id=external_id,
        source=source,
        position=storable_text(message.position),
        topic=storable_text(message.topic),
        partition_key=storable_text(message.key),
        headers={
            storable_text(name): storable_text(value) for name, value in message.headers.items()
        },
        **(omitted if is_omitted else body_fields(message.body)),
        unknown_type=storable_text(unknown_type),
    )


def body_fields(body: bytes) -> dict[str, Any]:
    """Return the fields of a stored message that hold this body."""
    text, encoding = _encoded(body)
    return {"body": text, "encoding": encoding, "size": len(body)}


def _encoded(body: bytes) -> tuple[str, Encoding]:
    try:
        text = body.decode()
    except UnicodeDecodeError:
        return b64encode(body).decode(), "base64"
    # NUL is valid UTF-8, and PostgreSQL does not store it.
    return (b64encode(body).decode(), "base64") if "\x00" in text else (text, "text")
