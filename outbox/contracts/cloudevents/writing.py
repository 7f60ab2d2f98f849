"""Write a stored event as a CloudEvent, in binary or structured encoding."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from outbox.events import EventRecord

from .common import CONTENT_TYPE, JSON, SPEC_VERSION, InvalidCloudEvent

#: Printable ASCII without space, double quote and percent.
_UNENCODED = "".join(map(chr, {*range(0x21, 0x7F)} - {*map(ord, '"%')}))

#: `json.dumps` with these arguments would make one for each call.
_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))

_PLANES = range(0, 0x110000, 0x10000)
_NONCHARACTERS = "".join(f"{chr(plane + 0xFFFE)}{chr(plane + 0xFFFF)}" for plane in _PLANES)
#: Characters that an attribute must not have: controls, lone surrogates, noncharacters.
_DISALLOWED = re.compile(f"[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef{_NONCHARACTERS}]")


def type_of(name: str, version: int) -> str:
    """Return the attribute `type` of an event: "orders.OrderPlaced.v2"; also version 1 is named."""
    return f"{name}.v{version}"


def attributes(
    event: EventRecord, *, source: str, schema_url: str = "", replays: int = 0
) -> dict[str, str]:
    """Return the attributes of an event; those without a value are left out.

    Args:
        source: URI reference of this system, `OUTBOX["SOURCE"]`.
        schema_url: address of the event's schema, or "".
        replays: number of requested replays, the extension `replay`. The receiver knows the id, and
            so does not process the event again. If it reports settlements, it reports again.

    Raises:
        InvalidCloudEvent: the key has a character that no attribute may have.
    """
    given = {
        "specversion": SPEC_VERSION,
        "id": str(event.id),
        "source": source,
        "type": type_of(event.name, event.version),
        "subject": event.key,
        "time": _written_time(event.emitted_at),
        "datacontenttype": JSON,
        "dataschema": schema_url,
        "partitionkey": event.key,
        "traceparent": event.traceparent,
        "tracestate": event.tracestate,
        "correlationid": str(event.correlation_id),
        "causationid": str(event.causation_id or ""),
        "replay": str(replays or ""),
    }
    _refuse_disallowed(event, given)
    return {name: value for name, value in given.items() if value}


def _refuse_disallowed(event: EventRecord, given: Mapping[str, str]) -> None:
    text = "".join(given.values())
    if text.isascii() and text.isprintable():  # the search takes ten times as long
        return
    for name, value in given.items():
        if _DISALLOWED.search(value):
            raise InvalidCloudEvent(
                f"The attribute {name} of event {event.id} has a control character, a lone "
                "surrogate or a noncharacter, which CloudEvents forbids. Emit the event with "
                "another key, or publish it with a mapper."
            )


def binary(
    attributes: Mapping[str, str], data: Any, *, prefix: str = "ce-", percent_encoded: bool = False
) -> tuple[dict[str, str], bytes]:
    """Return headers and body of a CloudEvent in binary encoding.

    Args:
        attributes: from `attributes()`.
        data: JSON value.
        prefix: prefix of the attributes among the headers.
        percent_encoded: encode the headers' values as HTTP and NATS require. False: the values are
            text, to be sent as UTF-8.

    Raises:
        InvalidCloudEvent: the data is no JSON value.
    """
    kind = {CONTENT_TYPE: attributes.get("datacontenttype", JSON)}
    return {**kind, **headers(attributes, prefix, percent_encoded)}, json_bytes(data)


def headers(attributes: Mapping[str, str], prefix: str, percent_encoded: bool) -> dict[str, str]:
    """Return attributes as headers, without the content type. Arguments as of `binary`."""
    encode = encoded if percent_encoded else str
    return {
        f"{prefix}{name}": encode(value)
        for name, value in attributes.items()
        if name != "datacontenttype"
    }


def structured(attributes: Mapping[str, str], data: Any) -> bytes:
    """Return the body of a CloudEvent in structured encoding, of the media type `STRUCTURED`.

    Raises:
        InvalidCloudEvent: the data is no JSON value.
    """
    return json_bytes({**attributes, "data": data})


def json_bytes(value: Any) -> bytes:
    """Return a JSON value as UTF-8, without spaces.

    Raises:
        InvalidCloudEvent: the value has no JSON form, for example NaN.
    """
    try:
        return _ENCODER.encode(value).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidCloudEvent(
            f"The payload has no JSON form in UTF-8 ({type(error).__name__}). Emit only JSON "
            "values, without NaN, infinity and lone surrogates."
        ) from error


def encoded(value: str) -> str:
    """Return the value of an attribute, percent-encoded as a header of HTTP or NATS."""
    return quote(value, safe=_UNENCODED)


def _written_time(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
