"""The page about sinks has each key and each attribute, and its examples work."""

from __future__ import annotations

import ast
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from pytest_django import Settings

from outbox import EventRecord
from outbox.contracts.cloudevents import attributes
from outbox.sinks import configuration
from outbox.sinks.messages import MessageParts
from outbox.sinks.topics import SCHEMA_FIELDS, TOPIC_FIELDS
from tests.docs.pages import Page, names_in

PAGE = Page("docs/how-to/publish-to-another-system.md")
ID = UUID(int=7)

pytestmark = pytest.mark.once


def record() -> EventRecord:
    return EventRecord(
        id=ID,
        name="orders.OrderPlaced",
        version=2,
        key="7",
        payload={"order_id": "7"},
        emitted_at=datetime(2026, 11, 28, tzinfo=UTC),
        correlation_id=ID,
        causation_id=ID,
        traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        tracestate="rojo=00f067aa0ba902b7",
    )


class TestThePage:
    def test_has_each_key_of_a_sink(self):
        shown = [name for row in PAGE.table("Configure a sink") for name in names_in(row[0])]

        assert tuple(shown) == configuration._KEYS

    def test_has_each_placeholder(self):
        rows = {names_in(row[0])[0]: row[-1] for row in PAGE.table("Configure a sink")}
        message = {names_in(row[0])[0]: row[-1] for row in PAGE.table("The message")}

        assert [one for one in TOPIC_FIELDS if f"{{{one}}}" not in rows["TOPIC"]] == []
        assert [one for one in SCHEMA_FIELDS if f"{{{one}}}" not in message["dataschema"]] == []

    def test_has_each_attribute(self):
        made = attributes(
            record(), source="/shop", schema_url="https://shop.example.com/2", replays=1
        )

        shown = {names_in(row[0])[0]: row[1] for row in PAGE.table("The message")}

        assert set(shown) == set(made)
        assert made["type"] in shown["type"]

    def test_has_valid_settings(self, settings: Settings):
        (assignment,) = ast.parse(PAGE.blocks("python")[0]).body
        assert isinstance(assignment, ast.Assign)
        outbox = ast.literal_eval(assignment.value)
        settings.OUTBOX = outbox

        config = configuration.configured()["analytics"]

        assert config.accepts("orders.OrderPlaced")
        assert not config.accepts("payments.PaymentRefused")

    def test_has_a_mapper_that_works(self):
        names: dict[str, Any] = {}
        exec(PAGE.blocks("python")[1], names)

        parts = names["as_line"](record(), topic="t")

        assert isinstance(parts, MessageParts)
        assert parts.body == b'{"kind": "orders.OrderPlaced", "of": "7", "order_id": "7"}'
