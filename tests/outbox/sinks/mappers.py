"""Mappers of tests, as a project would write them."""

from __future__ import annotations

from typing import Any

from outbox.events import EventRecord
from outbox.sinks.messages import MessageParts
from tests.outbox.tenants import hooks


def as_line(event: EventRecord, *, topic: str) -> MessageParts:
    """Map to a line of text, with all parts."""
    line = f"{event.name} {dict(event.payload)}".encode()
    return MessageParts(body=line, headers={"x": "1"}, key="line", topic=f"{topic}.lines")


def as_body(event: EventRecord, *, topic: str) -> MessageParts:
    """Map to a body alone."""
    return MessageParts(body=topic.encode())


def as_text(event: EventRecord, *, topic: str) -> Any:
    """Return something else than parts."""
    return "text"


def as_text_body(event: EventRecord, *, topic: str) -> Any:
    """Return parts whose body is no bytes."""
    wrong: Any = "text"
    return MessageParts(body=wrong)


def as_tenant(event: EventRecord, *, topic: str) -> MessageParts:
    """Map to the tenant that is current, and that of the event."""
    return MessageParts(body=f"{hooks.capture()} {event.tenant}".encode())


def as_total(event: EventRecord, *, topic: str) -> MessageParts:
    """Map a field that no event of these tests has."""
    return MessageParts(body=str(event.payload["total"]).encode())


def as_number(part: str, event: EventRecord) -> MessageParts:
    """Return parts of which one, a header or another one, is a number."""
    number: Any = event.version
    given = {part: number} if part in ("key", "topic") else {"headers": {part: number}}
    return MessageParts(body=b"{}", **given)


def as_number_in_headers(event: EventRecord, *, topic: str) -> MessageParts:
    """Return a header that is no text."""
    return as_number("x-version", event)


def as_number_in_key(event: EventRecord, *, topic: str) -> MessageParts:
    """Return a key that is no text."""
    return as_number("key", event)


def as_number_in_topic(event: EventRecord, *, topic: str) -> MessageParts:
    """Return a topic that is no text."""
    return as_number("topic", event)


def as_number_of_some(event: EventRecord, *, topic: str) -> MessageParts:
    """Return a header that is no text for the event with the number 1."""
    if event.payload["number"] == 1:
        return as_number("x-version", event)
    return MessageParts(body=b"{}")
