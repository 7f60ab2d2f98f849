"""An AsyncAPI document of this code as a page in Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .outline import ChannelRow, FieldRow, MessageRow, channel_rows

_INTERNAL = "internal"


def as_markdown(made: Mapping[str, Any]) -> str:
    """Return a document as Markdown: a section for each channel."""
    info = made["info"]
    lines = [f"# {info['title']}", "", f"Version {info['version']}. {info['description']}"]
    for channel in channel_rows(made):
        lines += ["", *_channel(channel)]
    return "\n".join(lines) + "\n"


def _channel(channel: ChannelRow) -> Iterator[str]:
    yield f"## {channel.address}"
    yield ""
    place = _INTERNAL if channel.is_internal else ", ".join(f"`{one}`" for one in channel.servers)
    yield f"Channel: {place}."
    for title, names in (("Sent by", channel.senders), ("Received by", channel.receivers)):
        if names:
            yield f"{title}: {', '.join(f'`{one}`' for one in names)}."
    if channel.description:
        yield ""
        yield channel.description
    for message in channel.messages:
        yield ""
        yield from _message(message)


def _message(message: MessageRow) -> Iterator[str]:
    yield f"### Message {message.name}" + (" (earlier version)" if message.is_deprecated else "")
    if message.description:
        yield ""
        yield message.description
    if message.fields:
        yield ""
        yield from _table("field", message.fields)
    if message.headers and not message.is_internal:
        yield ""
        yield from _table("header", message.headers)
    yield ""
    if message.example:
        yield f"Example, `{message.content_type}`:"
        yield ""
        yield "```json"
        yield message.example
        yield "```"
    else:
        yield message.no_example


def _table(noun: str, rows: Sequence[FieldRow]) -> Iterator[str]:
    yield f"| {noun} | type | required | description |"
    yield "| --- | --- | --- | --- |"
    for row in rows:
        mark = " (sensitive)" if row.is_sensitive else ""
        required = "yes" if row.is_required else "no"
        yield f"| `{row.name}` | {_cell(row.type)}{mark} | {required} | {_cell(row.description)} |"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
