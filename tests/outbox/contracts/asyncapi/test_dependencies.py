"""External events are compared with the AsyncAPI document of the system that they come from."""

# No `from __future__ import annotations`: pydantic sees the local classes of tests.

from datetime import datetime
from decimal import Decimal
from typing import Any, Literal
from uuid import UUID

import pytest
from pydantic import BaseModel, Field

from outbox import DomainEvent
from outbox.contracts.asyncapi import document
from outbox.contracts.asyncapi.dependencies import Comparison, Reader, compare, types_of
from outbox.contracts.asyncapi.reading import contract_of
from outbox.contracts.json_schemas import read_schema
from tests.outbox.contracts.asyncapi.documents import PAYLOAD, changed, of_billing

#: It needs no PostgreSQL.
pytestmark = pytest.mark.once

PAID = "com.example.invoice.paid"


class InvoicePaid(BaseModel):
    order_id: UUID
    amount: int


def compared(kind: type[BaseModel] = InvoicePaid, type_: str = PAID, **document: Any) -> Comparison:
    reader = Reader(event="billing.InvoicePaid", type=type_, schema=read_schema(kind))
    return compare([reader], contract_of(of_billing(**document)))


class TestAnExternalEvent:
    def test_that_fits_has_no_problem(self):
        assert compared() == Comparison(problems=[], doubts=[])

    def test_may_be_missing_from_the_document(self):
        found = compared(type_="com.example.invoice.settled")

        assert found.problems == [
            "billing.InvoicePaid: Billing 1.0.0 has no message of the type "
            f"com.example.invoice.settled. It has {PAID}."
        ]

    @pytest.mark.parametrize(
        ("payload", "text"),
        [
            (
                changed({"amount": {"type": "string"}}),
                "amount: the message carries a string, this code reads an integer.",
            ),
            (
                changed({"amount": None}),
                "amount: the message does not carry it, this code requires it.",
            ),
            (
                changed(required=["order_id"]),
                "amount: the message may omit it, this code requires it.",
            ),
            (
                changed({"order_id": {"type": "string", "format": "date-time"}}),
                "order_id: the message carries a string (date-time), this code reads a string "
                "(uuid).",
            ),
        ],
        ids=["type", "missing field", "optional field", "format"],
    )
    def test_that_does_not_fit_is_a_problem(self, payload: Any, text: str):
        assert compared(payload=payload).problems == [f"billing.InvoicePaid, message paid: {text}"]

    def test_may_have_another_name_for_a_field(self):
        class Renamed(BaseModel):
            total: int = Field(alias="amount")

        assert compared(Renamed).problems == []

    def test_with_an_enum_must_know_all_values(self):
        class Known(BaseModel):
            status: Literal["open"]

        assert compared(Known).problems == [
            'billing.InvoicePaid, message paid: status: the message carries "paid", this code '
            'reads "open".'
        ]

    def test_whose_format_is_not_stated_is_in_doubt(self):
        """Many documents state no formats. A doubt is no failure."""
        payload = changed({"order_id": {"type": "string"}})

        found = compared(payload=payload)

        assert found.problems == []
        assert found.doubts == [
            "billing.InvoicePaid, message paid: order_id: the message carries a string, this code "
            "reads a string (uuid)."
        ]

    def test_reads_every_message_of_its_type(self):
        """A system may send two versions under one type."""
        new = of_billing()
        new["channels"]["invoices"]["messages"]["paid_2"] = {
            "name": PAID,
            "payload": changed({"amount": {"type": "number"}}),
        }
        reader = Reader(event="billing.InvoicePaid", type=PAID, schema=read_schema(InvoicePaid))

        assert compare([reader], contract_of(new)).problems == [
            "billing.InvoicePaid, message paid_2: amount: the message carries a number, this code "
            "reads an integer."
        ]

    @pytest.mark.parametrize(
        ("payload", "reason"),
        [
            (True, "the document gives no schema of its data"),
            ({"schemaFormat": "application/vnd.apache.avro", "schema": {}}, "is no JSON Schema"),
        ],
        ids=["no schema", "Avro"],
    )
    def test_without_a_schema_is_a_problem(self, payload: Any, reason: str):
        [problem] = compared(payload=payload).problems

        assert reason in problem


class TestTheType:
    @pytest.mark.parametrize("header", ["ce_type", "ce-type", "type", "cloudEvents:type"])
    def test_may_be_a_constant_among_the_headers(self, header: str):
        headers = {"type": "object", "properties": {header: {"const": "paid.v1"}}}
        [(_channel, message)] = contract_of(of_billing(message={"headers": headers})).messages()

        assert "paid.v1" in types_of(message)

    def test_is_not_the_content_type(self):
        headers = {"type": "object", "properties": {"content-type": {"const": "text/plain"}}}
        [(_channel, message)] = contract_of(of_billing(message={"headers": headers})).messages()

        assert types_of(message) == {"paid", PAID}

    def test_may_be_in_the_envelope_around_the_data(self):
        envelope = {
            "type": "object",
            "properties": {
                "specversion": {"const": "1.0"},
                "source": {"type": "string"},
                "type": {"enum": ["paid.v1"]},
                "data": {"$ref": "#/components/schemas/Data"},
            },
        }
        made = of_billing(payload=envelope)
        made["components"]["schemas"] = {"Data": PAYLOAD}
        reader = Reader(event="billing.Paid", type="paid.v1", schema=read_schema(InvoicePaid))

        assert compare([reader], contract_of(made)) == Comparison(problems=[], doubts=[])


class TestTheDocumentOfAnotherProject:
    """Written by this app in its own project, in each encoding."""

    @pytest.mark.parametrize("backend", ["MemorySink", "StructuredSink"])
    def test_fits_an_external_event(self, own_registry: None, settings: Any, backend: str):
        class Paid(DomainEvent, key="order_id"):
            order_id: UUID
            amount: Decimal
            at: datetime

        class ExternalPaid(BaseModel):
            order_id: UUID
            amount: Decimal

        class TooMuch(BaseModel):
            amount: Decimal
            tax: Decimal

        sink = {"BACKEND": f"tests.outbox.sinks.memory.{backend}", "EVENTS": ["tests.Paid"]}
        settings.OUTBOX = {"SINKS": {"out": sink}, "SOURCE": "/billing"}
        contract = contract_of(document(internal=False))

        def found(kind: type[BaseModel]) -> Comparison:
            schema = read_schema(kind)
            reader = Reader(event="billing.Paid", type="tests.Paid.v1", schema=schema)
            return compare([reader], contract)

        assert found(ExternalPaid) == Comparison(problems=[], doubts=[])
        assert found(TooMuch).problems == [
            "billing.Paid, message tests.Paid.v1: tax: the message does not carry it, this code "
            "requires it."
        ]
