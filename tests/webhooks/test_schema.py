"""The section `webhooks` of the schema matches the sent messages."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml
from jsonschema import (  # type: ignore[import-untyped]  # it has no types
    Draft202012Validator,
    FormatChecker,
)

from tests.docs.pages import ROOT
from tests.orders.factories import customer
from webhooks import services
from webhooks.models import EventType

SCHEMA = yaml.safe_load((ROOT / "docs/reference/openapi.yaml").read_text())

TOLD_BY = {
    EventType.CONFIRMED: "orders.OrderConfirmed",
    EventType.READY_TO_SHIP: "orders.OrderReadyToShip",
    EventType.SHIPPED: "orders.OrderShipped",
    EventType.CANCELLED: "orders.OrderCancelled",
    EventType.REFUNDED: "payments.PaymentRefunded",
}
FACTS: dict[str, dict[str, Any]] = {
    EventType.SHIPPED: {"carrier": "Yamato", "tracking_number": "1"},
    EventType.CANCELLED: {"reason": "customer"},
    EventType.REFUNDED: {"amount": {"amount": 5, "currency": "JPY"}},
}


def schema_of(kind: str) -> dict[str, Any]:
    content = SCHEMA["webhooks"][kind]["post"]["requestBody"]["content"]["application/json"]
    return {**content["schema"], "components": SCHEMA["components"]}


def shape_of(kind: str) -> Any:
    """The names of all fields that the schema has for a message."""

    def fields(part: dict[str, Any]) -> Any:
        if "$ref" in part:
            part = SCHEMA["components"]["schemas"][part["$ref"].rpartition("/")[2]]
        if "items" in part:
            return [fields(part["items"])]
        properties = part.get("properties")
        return {name: fields(one) for name, one in properties.items()} if properties else None

    return fields(schema_of(kind))


def shape(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: shape(part) for name, part in value.items()} or None
    return [shape(value[0])] if isinstance(value, list) else None


class TestTheSchemaOfWebhooks:
    def test_has_each_event_type_and_the_test(self):
        assert set(SCHEMA["webhooks"]) == {*EventType.values, "ping"}

    def test_says_that_the_refund_of_a_cancellation_is_not_listed(self):
        """Failed: a client looked for its id among the refunds of the order."""
        described = SCHEMA["components"]["schemas"]["WebhookRefund"]["properties"]["id"]

        assert "which `refunds` of the order does not list" in described["description"]

    def test_says_that_a_second_rotation_ends_the_first_secret(self):
        rotation = SCHEMA["paths"]["/api/webhooks/{id}/rotate-secret/"]["post"]

        assert "A further rotation in this time ends the older one" in rotation["description"]

    @pytest.mark.django_db
    @pytest.mark.parametrize("kind", [*EventType.values, "ping"])
    def test_matches_the_sent_messages(self, outbox, receiver, order, kind):
        added = services.add_endpoint(
            owner=customer(), url=receiver.url, event_types=EventType.values
        )
        if kind in TOLD_BY:
            outbox.given(TOLD_BY[kind], order_id=order.id, **FACTS.get(kind, {}))
        if kind == "ping":
            services.ping(endpoint_id=added.pk)

        outbox.deliver_all(only="webhooks")

        (request,) = [one for one in receiver.requests if json.loads(one.body)["type"] == kind]
        body = json.loads(request.body)
        Draft202012Validator(schema_of(kind), format_checker=FormatChecker()).validate(body)
        assert shape(body) == shape_of(kind)
        headers = SCHEMA["webhooks"][kind]["post"]["parameters"]
        assert {one["name"] for one in headers} <= set(request.headers)
