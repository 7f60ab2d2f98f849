"""Differences between two AsyncAPI documents: which of them break another system."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from outbox.contracts.asyncapi.differences import differences
from outbox.contracts.asyncapi.reading import contract_of
from tests.outbox.contracts.asyncapi.documents import PAYLOAD, changed, of_billing

#: It needs no PostgreSQL.
pytestmark = pytest.mark.once

MESSAGE = "Channel billing.invoices, message paid"


def breaking(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    found = differences(contract_of(old), contract_of(new))
    return [one.text for one in found if not one.is_compatible]


def compatible(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    found = differences(contract_of(old), contract_of(new))
    return [one.text for one in found if one.is_compatible]


def after(change: Callable[[dict[str, Any]], object], *, action: str = "send") -> list[str]:
    """Return the breaking differences after a change of the document."""
    new = of_billing(action=action)
    change(new)
    return breaking(of_billing(action=action), new)


class TestTwoEqualDocuments:
    @pytest.mark.parametrize("action", ["send", "receive"])
    def test_have_no_difference(self, action: str):
        old, new = (contract_of(of_billing(action=action)) for _ in range(2))

        assert differences(old, new) == []


class TestAMessageThatIsSent:
    """Its receivers follow the old document. The new message must fit it."""

    @pytest.mark.parametrize(
        ("payload", "text"),
        [
            (
                changed({"amount": {"type": "string"}}),
                "amount: the new message carries a string, a present receiver reads an integer.",
            ),
            (
                changed({"amount": None}),
                "amount: the new message does not carry it, a present receiver requires it.",
            ),
            (
                changed(required=["order_id", "status"]),
                "amount: the new message may omit it, a present receiver requires it.",
            ),
            (
                changed({"status": {"enum": ["open", "paid", "void"]}}),
                'status: the new message carries "void", a present receiver reads "open" or '
                '"paid".',
            ),
        ],
        ids=["changed type", "removed field", "field may be missing", "wider enum"],
    )
    def test_breaks_receivers(self, payload: Any, text: str):
        assert breaking(of_billing(), of_billing(payload=payload)) == [f"{MESSAGE}: {text}"]

    @pytest.mark.parametrize(
        "payload",
        [
            changed({"currency": {"type": "string"}}),
            changed({"currency": {"type": "string"}}, required=["currency", *PAYLOAD["required"]]),
            changed({"note": None}),
            changed({"status": {"enum": ["open"]}}),
            changed(required=["order_id", "amount", "status", "note"]),
        ],
        ids=["new field", "new required field", "optional field removed", "narrower enum", "sure"],
    )
    def test_may_change_compatibly(self, payload: Any):
        assert breaking(of_billing(), of_billing(payload=payload)) == []
        assert compatible(of_billing(), of_billing(payload=payload)) != []

    def test_must_keep_its_headers(self):
        headers = {
            "type": "object",
            "properties": {"ce_id": {"type": "string"}},
            "required": ["ce_id"],
        }

        found = breaking(of_billing(message={"headers": headers}), of_billing())

        assert found == [
            f"{MESSAGE}, headers: its schema changed between any value and certain values."
        ]

    def test_must_keep_its_content_type(self):
        new = of_billing(message={"contentType": "application/cloudevents+json"})

        assert breaking(of_billing(), new) == [
            f"{MESSAGE}: its content type was application/json and is application/cloudevents+json."
        ]


class TestAMessageThatIsReceived:
    """Its senders follow the old document. The new version must accept it."""

    @pytest.mark.parametrize(
        ("payload", "text"),
        [
            (
                changed({"currency": {"type": "string"}}, required=["order_id", "currency"]),
                "currency: a present sender's message does not carry it, the new version requires "
                "it.",
            ),
            (
                changed({"status": {"enum": ["paid"]}}),
                'status: a present sender\'s message carries "open", the new version reads "paid".',
            ),
        ],
        ids=["required field added", "narrower enum"],
    )
    def test_breaks_senders(self, payload: Any, text: str):
        old, new = of_billing(action="receive"), of_billing(action="receive", payload=payload)

        assert breaking(old, new) == [f"{MESSAGE}: {text}"]

    @pytest.mark.parametrize(
        "payload",
        [
            changed({"currency": {"type": "string"}}),
            changed({"amount": None}),
            changed({"status": {"enum": ["open", "paid", "void"]}}),
        ],
        ids=["optional field added", "field no longer read", "wider enum"],
    )
    def test_may_change_compatibly(self, payload: Any):
        old, new = of_billing(action="receive"), of_billing(action="receive", payload=payload)

        assert breaking(old, new) == []


class TestAChannel:
    def test_may_not_be_removed(self):
        found = after(lambda new: (new["channels"].clear(), new["operations"].clear()))

        assert found == ["Channel billing.invoices is removed."]

    def test_may_not_lose_a_message(self):
        def remove(new: dict[str, Any]) -> None:
            new["channels"]["invoices"]["messages"].clear()
            new["operations"]["publish"]["messages"].clear()

        assert after(remove) == [f"{MESSAGE}: is removed."]

    def test_may_not_move(self):
        found = after(lambda new: new["channels"]["invoices"].update(address="invoices"))

        assert found == ["Channel billing.invoices has the new address invoices."]

    def test_may_have_a_new_id_at_the_same_address(self):
        def rename(new: dict[str, Any]) -> None:
            new["channels"]["paid"] = new["channels"].pop("invoices")
            new["operations"]["publish"]["channel"]["$ref"] = "#/channels/paid"

        assert after(rename) == []

    def test_may_give_a_message_a_new_key_under_its_name(self):
        def rename(new: dict[str, Any]) -> None:
            messages = new["channels"]["invoices"]["messages"]
            messages["invoice_paid"] = messages.pop("paid")
            reference = {"$ref": "#/channels/invoices/messages/invoice_paid"}
            new["operations"]["publish"]["messages"] = [reference]

        assert after(rename) == []

    @pytest.mark.parametrize(
        ("action", "done"), [("send", "sent"), ("receive", "received")], ids=["send", "receive"]
    )
    def test_may_not_lose_an_operation(self, action: str, done: str):
        found = after(lambda new: new["operations"].clear(), action=action)

        assert found == [f"{MESSAGE}: is no longer {done}."]

    def test_may_be_new(self):
        new = of_billing()
        new["channels"]["refunds"] = {"address": "billing.refunds"}

        assert breaking(of_billing(), new) == []
        assert compatible(of_billing(), new) == ["Channel billing.refunds is new."]


class TestAnInternalChannel:
    """An earlier version of an event is no longer emitted, and its handlers still read it."""

    def document(self, *, emits: str, reads: list[str]) -> dict[str, Any]:
        made = of_billing()
        channel = made["channels"]["invoices"]
        channel["x-outbox-internal"] = True
        channel["messages"] = {
            name: {"name": name, "payload": PAYLOAD} for name in dict.fromkeys([emits, *reads])
        }
        channel_reference = {"$ref": "#/channels/invoices"}
        made["operations"] = {
            "emit": {"action": "send", "channel": channel_reference, "messages": [to(emits)]},
            "handle": {
                "action": "receive",
                "channel": channel_reference,
                "messages": [to(one) for one in reads],
            },
        }
        return made

    def test_may_raise_the_version_of_its_event(self):
        old = self.document(emits="v1", reads=["v1"])

        assert breaking(old, self.document(emits="v2", reads=["v2", "v1"])) == []

    def test_may_not_leave_an_earlier_version_without_reader(self):
        old = self.document(emits="v1", reads=["v1"])

        found = breaking(old, self.document(emits="v2", reads=["v2"]))

        assert found == ["Channel billing.invoices, message v1: is removed."]


def to(message: str) -> dict[str, str]:
    return {"$ref": f"#/channels/invoices/messages/{message}"}


class TestOtherChanges:
    def test_are_compatible(self):
        new = of_billing()
        new["info"] = {"title": "Billing", "version": "1.1.0"}
        new["servers"] = {"kafka": {"host": "kafka:9092", "protocol": "kafka"}}
        new["channels"]["invoices"]["bindings"] = {"kafka": {"partitions": 3}}

        assert breaking(of_billing(), new) == []
        assert compatible(of_billing(), new) == [
            "Channel billing.invoices: its bindings changed.",
            "Server kafka is new.",
            "The document's version was 1.0.0 and is 1.1.0.",
        ]
