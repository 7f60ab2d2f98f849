"""Entries of SendMessageBatch and PublishBatch: one for each message of a sink."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from outbox.receipt import PermanentFailure
from outbox.sinks.base import SinkMessage

#: Most attributes of a message. SNS discards a message with more on its way to a queue with raw
#: delivery, without an error.
ATTRIBUTES = 10
#: Type of the attributes. It counts for the size of a message.
_TYPE = "String"

#: Characters of message groups and deduplication ids, at most 128.
_FIFO_TEXT = re.compile(r"[A-Za-z0-9!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~]{1,128}")
#: Names of attributes, by the developer guide of SQS.
_NAME = re.compile(
    r"(?!(?i:aws\.|amazon\.))(?!.*\.\.)[A-Za-z0-9_-](?:[A-Za-z0-9_.-]{0,254}[A-Za-z0-9_-])?"
)
#: Characters that SQS refuses: those that XML 1.0 does not allow.
_NO_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True)
class Entry:
    """One message of a request.

    Attributes:
        index: its place in the call of `publish`.
        body: its text.
        attributes: at most `ATTRIBUTES`.
        group: message group, for FIFO.
        deduplication_id: for FIFO.
    """

    index: int
    body: str
    attributes: Mapping[str, str]
    group: str
    deduplication_id: str

    @property
    def id(self) -> str:
        """Its name in the request."""
        return str(self.index)

    @property
    def size(self) -> int:
        """Bytes that count for the limits: body, and names, types and values of the attributes."""
        attributes = sum(
            len(name) + len(_TYPE) + len(value.encode()) for name, value in self.attributes.items()
        )
        return len(self.body.encode()) + attributes

    def values(self, *, fifo: bool) -> dict[str, Any]:
        """Return the parameters that SNS and SQS have in common."""
        values: dict[str, Any] = {"Id": self.id}
        if self.attributes:
            values["MessageAttributes"] = {
                name: {"DataType": _TYPE, "StringValue": value}
                for name, value in self.attributes.items()
            }
        if fifo:
            values["MessageGroupId"] = self.group
            values["MessageDeduplicationId"] = self.deduplication_id
        return values


def is_fifo(topic: str) -> bool:
    """Return whether a queue or topic is FIFO. SNS and SQS require this end of its name."""
    return topic.endswith(".fifo")


def entry_of(index: int, message: SinkMessage) -> Entry:
    """Return the entry of a message.

    Raises:
        PermanentFailure: SNS and SQS cannot carry it.
    """
    return Entry(
        index=index,
        body=_body(message.body),
        attributes=_attributes(message),
        group=fifo_text(message.key),
        deduplication_id=fifo_text(message.id),
    )


def fifo_text(text: str) -> str:
    """Return a message group or deduplication id for a text.

    It is the text itself if FIFO allows it: 1 to 128 letters, digits and ASCII punctuation. Else it
    is "sha256:" and the text's SHA-256 in hexadecimal, so equal texts have equal values.
    """
    if _FIFO_TEXT.fullmatch(text):
        return text
    return "sha256:" + sha256(text.encode()).hexdigest()


def _body(body: bytes) -> str:
    try:
        text = body.decode()
    except UnicodeDecodeError:
        raise PermanentFailure(
            "The body is not UTF-8, and SNS and SQS carry only text. Encode it in the sink's "
            "mapper, for example as base64."
        ) from None
    if not text:
        raise PermanentFailure(
            "The body is empty, which SNS and SQS refuse. Publish a body in the sink's mapper."
        )
    _refuse_no_xml(text, "body")
    return text


def _attributes(message: SinkMessage) -> dict[str, str]:
    """Return the headers that have a value; SNS and SQS refuse an empty one."""
    attributes = {name: value for name, value in message.headers.items() if value}
    if len(attributes) > ATTRIBUTES:
        raise PermanentFailure(
            f"The message has {len(attributes)} headers, and SNS and SQS carry {ATTRIBUTES}. "
            'Set ENCODING to "structured", or return fewer headers in the sink\'s mapper.'
        )
    for name, value in attributes.items():
        if not _NAME.fullmatch(name):
            raise PermanentFailure(
                f'SNS and SQS do not allow the name of the header "{name}". Use letters, digits, '
                '"_", "-" and "." in the sink\'s mapper, and no "AWS." at its start.'
            )
        _refuse_no_xml(value, f'header "{name}"')
    return attributes


def _refuse_no_xml(text: str, place: str) -> None:
    if found := _NO_XML.search(text):
        raise PermanentFailure(
            f"The {place} has the character U+{ord(found[0]):04X}, which SNS and SQS refuse. "
            "Escape or remove it in the sink's mapper."
        )
