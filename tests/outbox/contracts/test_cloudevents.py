"""Written events are read by the SDK of CloudEvents, and its messages are read by `parse`."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import UUID

import pytest
from cloudevents.core.bindings import http, kafka, rabbitmq
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent as SdkEvent
from hypothesis import given
from hypothesis import strategies as st

from outbox.contracts.cloudevents import (
    STRUCTURED,
    CloudEvent,
    InvalidCloudEvent,
    attributes,
    binary,
    encoded,
    parse,
    structured,
)
from outbox.events import EventRecord

pytestmark = pytest.mark.once

FORMAT = JSONFormat()
ID = UUID("0198c0de-0000-7000-8000-000000000001")
CORRELATION = UUID("0198c0de-0000-7000-8000-000000000002")
CAUSE = UUID("0198c0de-0000-7000-8000-000000000003")
SCHEMA = "https://parcels.example/freight.ShipmentBooked/2.json"
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def record(**facts: Any) -> EventRecord:
    given = {
        "id": ID,
        "name": "freight.ShipmentBooked",
        "version": 2,
        "key": "parcel-7",
        "payload": {"parcel_id": "parcel-7", "weight": 3},
        "emitted_at": datetime(2026, 11, 28, 9, 30, 5, 123456, tzinfo=UTC),
        "correlation_id": CORRELATION,
    }
    return EventRecord(**{**given, **facts})


def written(event: EventRecord, **more: Any) -> dict[str, str]:
    return attributes(event, source="/parcels", **more)


#: Texts that an attribute may have: neither controls nor surrogates nor noncharacters.
TEXTS = st.text(
    st.characters(exclude_categories=["Cc", "Cs", "Cn"]) | st.sampled_from('%"\\ ;,=%2Fé€😀'),
    min_size=1,
    max_size=30,
)
JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("aé\n\"'{} "), inner),
    max_leaves=8,
)
PAYLOADS = st.dictionaries(st.text("abcé_", min_size=1), JSON_VALUES, max_size=4)


class TestTheAttributes:
    def test_are_those_of_the_event(self):
        event = record(causation_id=CAUSE, traceparent=TRACE, actor="user:7")

        assert written(event, schema_url=SCHEMA) == {
            "specversion": "1.0",
            "id": str(ID),
            "source": "/parcels",
            "type": "freight.ShipmentBooked.v2",
            "subject": "parcel-7",
            "time": "2026-11-28T09:30:05.123456Z",
            "datacontenttype": "application/json",
            "dataschema": SCHEMA,
            "partitionkey": "parcel-7",
            "traceparent": TRACE,
            "correlationid": str(CORRELATION),
            "causationid": str(CAUSE),
        }

    def test_without_a_value_are_left_out(self):
        made = written(record(key=""))

        assert set(made) == {
            "specversion",
            "id",
            "source",
            "type",
            "time",
            "datacontenttype",
            "correlationid",
        }

    def test_name_the_first_version_too(self):
        assert written(record(version=1))["type"] == "freight.ShipmentBooked.v1"

    def test_have_lower_case_names(self):
        names = written(record(causation_id=CAUSE, traceparent=TRACE), schema_url=SCHEMA)

        assert [name for name in names if not re.fullmatch("[a-z0-9]{1,20}", name)] == []

    def test_have_the_time_in_utc(self):
        tokyo = timezone(timedelta(hours=9))
        event = record(emitted_at=datetime(2026, 1, 1, 8, 0, tzinfo=tokyo))

        assert written(event)["time"] == "2025-12-31T23:00:00Z"

    @pytest.mark.parametrize(
        "bad", ["\n", "\x00", "\x7f", "\x85", "\ud800", "\ufdd0", "\U0001ffff"]
    )
    def test_are_refused_with_a_forbidden_character(self, bad):
        with pytest.raises(
            InvalidCloudEvent, match=r"The attribute subject of event .*another key"
        ):
            written(record(key=f"a{bad}b"))


class TestAWrittenEvent:
    """The SDK reads it, in the binding of each protocol."""

    @given(TEXTS, PAYLOADS)
    def test_is_read_from_http(self, key, payload):
        made = written(record(key=key), schema_url=SCHEMA)
        headers, body = binary(made, payload, prefix="ce-", percent_encoded=True)

        event = http.from_http(http.HTTPMessage(headers, body), FORMAT)

        assert_same(event, made, payload)
        assert all(re.fullmatch(r"[!-~]+", value) for value in headers.values())

    @given(TEXTS, PAYLOADS)
    def test_is_read_from_kafka(self, key, payload):
        made = written(record(key=key))
        headers, body = binary(made, payload, prefix="ce_")
        sent = {name: value.encode() for name, value in headers.items()}

        event = kafka.from_kafka(kafka.KafkaMessage(sent, key.encode(), body), FORMAT)

        assert_same(event, made, payload)

    @given(TEXTS, PAYLOADS)
    def test_is_read_from_rabbitmq(self, key, payload):
        made = written(record(key=key))
        headers, body = binary(made, payload, prefix="ce-")
        kind = headers.pop("content-type")

        event = rabbitmq.from_rabbitmq(rabbitmq.RabbitMQMessage(headers, kind, body), FORMAT)

        assert_same(event, made, payload)

    @given(TEXTS, PAYLOADS)
    def test_is_read_structured(self, key, payload):
        made = written(record(key=key), schema_url=SCHEMA)
        message = http.HTTPMessage({"content-type": STRUCTURED}, structured(made, payload))

        assert_same(http.from_http(message, FORMAT), made, payload)

    @pytest.mark.parametrize("value", [float("nan"), float("inf"), "\ud800", {1, 2}, ID])
    def test_has_only_json_values(self, value):
        for write in (structured, binary):
            with pytest.raises(InvalidCloudEvent, match="The payload has no JSON form"):
                write(written(record()), {"a": value})


def assert_same(event: Any, made: dict[str, str], payload: Any) -> None:
    found = dict(event.get_attributes())
    assert found.pop("time") == datetime.fromisoformat(made["time"])
    assert found == {name: value for name, value in made.items() if name != "time"}
    assert event.get_data() == payload


class TestAHeaderValue:
    def test_is_percent_encoded_as_the_specification_shows(self):
        assert encoded("Euro € 😀") == "Euro%20%E2%82%AC%20%F0%9F%98%80"

    def test_keeps_all_other_printable_characters(self):
        kept = "".join(map(chr, range(0x21, 0x7F))).replace('"', "").replace("%", "")

        assert encoded(kept) == kept
        assert encoded('"%') == "%22%25"


class TestAnEventOfAnotherSystem:
    """The SDK has written it."""

    @given(TEXTS, TEXTS, PAYLOADS, st.datetimes(timezones=st.just(UTC)))
    def test_is_read_in_every_encoding(self, name, subject, payload, time):
        sent = SdkEvent(
            {
                "id": name,
                "source": "https://billing.example/",
                "type": "com.example.invoice.paid",
                "specversion": "1.0",
                "subject": subject,
                "time": time,
                "datacontenttype": "application/json",
                "dataschema": SCHEMA,
                "partitionkey": subject,
            },
            payload,
        )
        expected = CloudEvent(
            id=name,
            source="https://billing.example/",
            type="com.example.invoice.paid",
            subject=subject,
            time=time,
            schema=SCHEMA,
            data=payload,
            extensions={"partitionkey": subject},
        )

        for message in (http.to_binary_event(sent), http.to_structured_event(sent)):
            assert parse(message.headers, message.body, percent_encoded=True) == expected
        for to_message in (kafka.to_binary_event, kafka.to_structured_event):
            of_kafka = to_message(sent)
            assert parse(of_kafka.headers, of_kafka.value, prefix="ce_") == expected

    def test_may_have_only_the_required_attributes(self):
        body = json.dumps({"specversion": "1.0", "id": "1", "source": "/a", "type": "t"}).encode()

        assert parse({}, body) == CloudEvent(id="1", source="/a", type="t")


BINARY = {"ce-specversion": "1.0", "ce-id": "7", "ce-source": "/billing", "ce-type": "paid"}
ENVELOPE = {"specversion": "1.0", "id": "7", "source": "/billing", "type": "paid"}


def of(**members: Any) -> bytes:
    return json.dumps({**ENVELOPE, **members}).encode()


class TestAMessage:
    def test_may_have_header_names_in_any_case(self):
        headers: dict[str, str | bytes] = {
            "CE-SpecVersion": b"1.0",
            "Ce-Id": "7",
            "ce-SOURCE": "/billing",
            "CE-TYPE": "paid",
            "CE-TenantId": "t1",
            "Content-Type": "Application/JSON; charset=UTF-8",
            "X-Other": "y",
        }

        event = parse(headers, b'{"a": 1}')

        assert event == CloudEvent(
            id="7", source="/billing", type="paid", data={"a": 1}, extensions={"tenantid": "t1"}
        )

    def test_is_structured_without_any_header(self):
        assert parse({}, of(data=[1])).data == [1]

    def test_is_structured_if_its_content_type_is(self):
        """Headers of the same event may stand beside it, as the specification allows."""
        headers = {**BINARY, "content-type": "application/cloudevents+json; charset=utf-8"}

        assert parse(headers, of(data=[1])).data == [1]

    @pytest.mark.parametrize("data", [None, 0, False, "", "text", [], {}])
    def test_may_have_any_json_value(self, data):
        assert parse(BINARY, json.dumps(data).encode()).data == data
        assert parse({}, of(data=data)).data == data

    def test_may_have_no_data(self):
        assert parse(BINARY, b"").data is None

    def test_may_have_json_in_base64(self):
        assert parse({}, of(data_base64="eyJhIjogMX0=")).data == {"a": 1}

    @pytest.mark.parametrize("kind", ["application/json", "text/json", "application/x.y+json", ""])
    def test_may_have_any_json_type(self, kind):
        assert parse({**BINARY, "content-type": kind}, b"1").data == 1

    def test_has_extensions_as_text(self):
        event = parse({}, of(sampled=True, retries=3, tenant="é", nothing=None))

        assert event.extensions == {"sampled": "true", "retries": "3", "tenant": "é"}

    @pytest.mark.parametrize(
        ("text", "time"),
        [
            ("2026-11-28T09:30:00Z", datetime(2026, 11, 28, 9, 30, tzinfo=UTC)),
            ("2026-11-28t09:30:00.5z", datetime(2026, 11, 28, 9, 30, 0, 500000, tzinfo=UTC)),
            (
                "2026-11-28T09:30:00.123456789Z",
                datetime(2026, 11, 28, 9, 30, 0, 123456, tzinfo=UTC),
            ),
            ("2026-11-28T10:30:00+01:00", datetime(2026, 11, 28, 9, 30, tzinfo=UTC)),
        ],
    )
    def test_has_a_time_of_rfc_3339(self, text, time):
        assert parse({**BINARY, "ce-time": text}, b"").time == time

    @pytest.mark.parametrize(
        ("value", "subject"),
        [("a%20b%e2%82%ac", "a b€"), ('"a \\"b\\\\"', 'a "b\\'), ("100%", "100%"), ("a", "a")],
    )
    def test_has_decoded_headers(self, value, subject):
        assert parse({**BINARY, "ce-subject": value}, b"", percent_encoded=True).subject == subject

    def test_keeps_percent_signs_if_headers_are_not_encoded(self):
        assert parse({**BINARY, "ce-subject": "a%20b"}, b"").subject == "a%20b"


STRUCTURED_TYPE = {"content-type": STRUCTURED}
SECRET = "ann@example.com"

INVALID: list[tuple[Mapping[str, str | bytes], bytes, str]] = [
    ({}, b"", "The body is no JSON text in UTF-8"),
    ({}, b"[]", "neither a CloudEvent in binary encoding.*nor in structured encoding"),
    ({}, b'{"a": "ann@example.com"}', "has no attribute specversion"),
    (STRUCTURED_TYPE, b'{"a": ann@example.com}', r"Expecting value\). Send valid JSON"),
    (STRUCTURED_TYPE, b"\xff ann@example.com", r"UnicodeDecodeError\). Send valid JSON"),
    (STRUCTURED_TYPE, b'{"a": NaN}', "no JSON text"),
    (STRUCTURED_TYPE, b"[" * 200_000, r"RecursionError|Expecting value"),
    (STRUCTURED_TYPE, of(id=""), "has no attribute id, which CloudEvents requires. Add it"),
    (STRUCTURED_TYPE, of(id=None), "has no attribute id"),
    (STRUCTURED_TYPE, of(source=None), "has no attribute source"),
    (STRUCTURED_TYPE, of(type=""), "has no attribute type"),
    (STRUCTURED_TYPE, of(specversion="0.3"), "specversion is '0.3'. Send CloudEvents 1.0"),
    (STRUCTURED_TYPE, of(customer={"email": SECRET}), "attribute customer is no text, whole"),
    (STRUCTURED_TYPE, of(share=0.5), "attribute share is no text"),
    (STRUCTURED_TYPE, of(time="yesterday"), "time is no time of RFC 3339"),
    (STRUCTURED_TYPE, of(time="2026-11-28T09:30:00"), "time is no time of RFC 3339"),
    (STRUCTURED_TYPE, of(time="2026-13-28T09:30:00Z"), "time is no time of RFC 3339"),
    (STRUCTURED_TYPE, of(time="٢٠٢٦-11-28T09:30:00Z"), "time is no time of RFC 3339"),
    (STRUCTURED_TYPE, of(data_base64="?"), "data_base64 is no base64 text"),
    (STRUCTURED_TYPE, of(data_base64=7), "data_base64 is no base64 text"),
    (STRUCTURED_TYPE, of(data="<a/>", datacontenttype="text/xml"), "content type text/xml. Send"),
    ({"content-type": "application/cloudevents-batch+json"}, b"[]", "Send one event per message"),
    ({"content-type": "application/cloudevents+avro"}, b"", "in the JSON format"),
    ({**BINARY, "content-type": "text/xml"}, b"<a/>", "Send JSON, or set a mapper"),
    ({**BINARY, "content-type": "application/json; charset=latin1"}, b"1", "encoding latin1. Send"),
    ({**BINARY, "ce-specversion": ""}, b"1", "no attribute specversion"),
    ({"ce-id": "7", "ce-type": "paid"}, b"{}", 'the header "ce-specversion"'),
    ({**BINARY, "ce-id": b"\xff"}, b"1", "The header ce-id is no UTF-8"),
]


class TestAMessageThatIsNoCloudEvent:
    @pytest.mark.parametrize(("headers", "body", "text"), INVALID, ids=[one[2] for one in INVALID])
    def test_is_refused_with_its_cause(self, headers, body, text):
        with pytest.raises(InvalidCloudEvent, match=text) as caught:
            parse(headers, body)

        assert SECRET not in str(caught.value)

    def test_is_refused_for_text_that_is_no_json(self):
        with pytest.raises(InvalidCloudEvent, match="Expecting value") as caught:
            parse(STRUCTURED_TYPE, b'{"a": x}')

        assert caught.value.where == "line 1, column 7"

    @pytest.mark.parametrize("value", ["%C0%A0", "a%ff"])
    def test_is_refused_for_a_header_of_invalid_utf_8(self, value):
        with pytest.raises(InvalidCloudEvent, match="no UTF-8 after its percent-decoding"):
            parse({**BINARY, "ce-subject": value}, b"", percent_encoded=True)

    @given(st.dictionaries(st.text(max_size=8), st.text(max_size=8) | st.binary()), st.binary())
    def test_raises_no_other_error(self, headers, body):
        for given_headers in (headers, {**BINARY, **headers}, {**STRUCTURED_TYPE, **headers}):
            try:
                event = parse(given_headers, body, percent_encoded=True)
            except InvalidCloudEvent:
                continue
            assert event.id
