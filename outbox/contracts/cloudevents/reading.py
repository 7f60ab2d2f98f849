"""Read a CloudEvent that another system has sent, in binary or structured encoding."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import unquote

from .common import CONTENT_TYPE, SPEC_VERSION, STRUCTURED, InvalidCloudEvent

_REQUIRED = ("id", "source", "type")
_CORE = {*_REQUIRED, "specversion", "subject", "time", "datacontenttype", "dataschema"}
_JSON_TYPE = re.compile(r"[^/;]+/([^;]+\+)?json", re.IGNORECASE)
_CHARSET = re.compile(r';\s*charset\s*=\s*"?([^\s";]+)', re.IGNORECASE)
_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class CloudEvent:
    """A CloudEvent that another system has sent.

    Attributes:
        id: unique within `source`.
        source: URI reference of the sender.
        type: type of the event.
        subject: "" if it has none.
        time: None if it has none.
        schema: address of the data's schema, or "".
        data: JSON value. None also if the message has no data.
        extensions: all other attributes, as text.
    """

    id: str
    source: str
    type: str
    subject: str = ""
    time: datetime | None = None
    schema: str = ""
    data: Any = field(default=None, repr=False)
    extensions: Mapping[str, str] = field(default_factory=dict)


def parse(
    headers: Mapping[str, str | bytes],
    body: bytes,
    *,
    prefix: str = "ce-",
    percent_encoded: bool = False,
) -> CloudEvent:
    """Read a message in binary or structured encoding.

    Args:
        headers: in any case, as text or UTF-8.
        body: the message's body.
        prefix: prefix of the attributes among the headers.
        percent_encoded: whether header values are encoded, as in HTTP and NATS.

    Raises:
        InvalidCloudEvent: it is no CloudEvent 1.0 with JSON data. The text quotes none of its data.
    """
    texts = {name.lower(): _text(name, value) for name, value in headers.items()}
    kind = texts.get(CONTENT_TYPE, "")
    if kind.lower().startswith("application/cloudevents"):
        return _parsed_structured(kind, body)
    start = prefix.lower()
    found = {
        name.removeprefix(start): _decoded(name, value) if percent_encoded else value
        for name, value in texts.items()
        if name.startswith(start) and name != start
    }
    if "specversion" in found:
        return _event({**found, "datacontenttype": kind}, _data(body, kind))
    if found.keys() & {*_REQUIRED}:
        raise _missing("specversion", f'as the header "{prefix}specversion"')
    return _parsed_structured(STRUCTURED, body)


def _parsed_structured(kind: str, body: bytes) -> CloudEvent:
    media_type = kind.partition(";")[0].strip().lower()
    if media_type not in (STRUCTURED, "application/cloudevents"):
        raise InvalidCloudEvent(
            f"The message has the content type {media_type}. Send one event per message, in the "
            f"JSON format: {STRUCTURED}."
        )
    whole = _json(body, kind)
    if not isinstance(whole, dict):
        raise InvalidCloudEvent(
            "The message is neither a CloudEvent in binary encoding, since it has no header for "
            "specversion, nor in structured encoding, since its body is no JSON object. Send one "
            "of these, or set a mapper."
        )
    texts = {
        name: _attribute(name, value)
        for name, value in whole.items()
        if value is not None and name not in ("data", "data_base64")
    }
    return _event(texts, _structured_data(whole, texts.get("datacontenttype", "")))


def _structured_data(whole: Mapping[str, Any], kind: str) -> Any:
    if whole.get("data_base64") is None:
        _refuse_other_than_json(kind)
        return whole.get("data")
    try:
        return _data(base64.b64decode(whole["data_base64"], validate=True), kind)
    except (TypeError, binascii.Error) as error:
        raise InvalidCloudEvent(
            "The member data_base64 is no base64 text. Send JSON in the member data."
        ) from error


def _event(texts: Mapping[str, str], data: Any) -> CloudEvent:
    if (version := texts.get("specversion", "")) != SPEC_VERSION:
        if not version:
            raise _missing("specversion", "of CloudEvents")
        raise InvalidCloudEvent(
            f"The attribute specversion is {version!r}. Send CloudEvents {SPEC_VERSION}."
        )
    for name in _REQUIRED:
        if not texts.get(name):
            raise _missing(name, "which CloudEvents requires")
    return CloudEvent(
        **{name: texts[name] for name in _REQUIRED},
        subject=texts.get("subject", ""),
        time=_read_time(texts["time"]) if texts.get("time") else None,
        schema=texts.get("dataschema", ""),
        data=data,
        extensions={name: value for name, value in texts.items() if name not in _CORE},
    )


def _missing(name: str, which: str) -> InvalidCloudEvent:
    return InvalidCloudEvent(f"The message has no attribute {name}, {which}. Add it.")


def _data(body: bytes, kind: str) -> Any:
    _refuse_other_than_json(kind)
    return _json(body, kind) if body else None


def _refuse_other_than_json(kind: str) -> None:
    if kind and not _JSON_TYPE.fullmatch(kind.partition(";")[0].strip()):
        raise InvalidCloudEvent(
            f"The data has the content type {kind.partition(';')[0]}. Send JSON, or set a mapper."
        )


def _json(body: bytes, kind: str) -> Any:
    found = _CHARSET.search(kind)
    if found and found[1].lower() not in ("utf-8", "utf8", "us-ascii"):
        raise InvalidCloudEvent(f"The text has the encoding {found[1]}. Send UTF-8.")
    try:
        return json.loads(body.decode("utf-8-sig"), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        reason, where = _problem(error)
        raise InvalidCloudEvent(
            f"The body is no JSON text in UTF-8 ({reason}). Send valid JSON.", where=where
        ) from error


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON value")


def _problem(error: Exception) -> tuple[str, str]:
    """Return why a body is invalid, and where; the texts of other errors may quote data."""
    if isinstance(error, json.JSONDecodeError):
        return error.msg, f"line {error.lineno}, column {error.colno}"
    return type(error).__name__, ""


def _text(name: str, value: object) -> str:
    try:
        return value.decode() if isinstance(value, bytes) else str(value)
    except UnicodeDecodeError as error:
        raise InvalidCloudEvent(f"The header {name} is no UTF-8. Send UTF-8.") from error


def _decoded(name: str, value: str) -> str:
    if len(value) > 1 and value[0] == value[-1] == '"':
        value = re.sub(r"\\(.)", r"\1", value[1:-1])
    try:
        return unquote(value, errors="strict")
    except UnicodeDecodeError as error:
        raise InvalidCloudEvent(
            f"The header {name} is no UTF-8 after its percent-decoding. Encode it as UTF-8 first."
        ) from error


def _attribute(name: str, value: object) -> str:
    """Return the canonical text of an attribute in JSON."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | str):
        return str(value)
    raise InvalidCloudEvent(
        f"The attribute {name} is no text, whole number or boolean. Send it as a text."
    )


def _read_time(text: str) -> datetime:
    try:
        if _TIME.fullmatch(text):
            return datetime.fromisoformat(text.upper())
    except ValueError:
        pass
    raise InvalidCloudEvent(
        'The attribute time is no time of RFC 3339. Send one like "2026-11-28T09:30:00Z".'
    )
