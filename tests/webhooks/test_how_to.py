"""docs/how-to/receive-webhooks.md matches the real messages."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from orders.serializers import OrderSerializer
from tests.docs.pages import Page, names_in
from webhooks import sending, services
from webhooks.models import EventType

PAGE = Page("docs/how-to/receive-webhooks.md")


def verified(*arguments: Any) -> Any:
    """The function that the page shows."""
    found: dict[str, Any] = {}
    exec(PAGE.blocks("python")[0], found)
    return found["verified"](*arguments)


@pytest.mark.django_db
class TestThePage:
    def test_verifies_only_our_messages(self, outbox, endpoint, order, receiver):
        old = endpoint.secret
        new = services.rotate_secret(endpoint_id=endpoint.pk).secret
        outbox.deliver_all(only="webhooks")
        (request,) = receiver.requests

        assert verified(request.body, request.headers, new)["type"] == "order.placed"
        assert verified(request.body, request.headers, old)["type"] == "order.placed"
        with pytest.raises(ValueError, match="not ours"):
            verified(request.body + b" ", request.headers, new)
        with pytest.raises(ValueError, match="too old"):
            verified(request.body, {**request.headers, "webhook-timestamp": "1"}, new)

    def test_shows_the_body_that_is_sent(self, outbox, endpoint, order, receiver):
        outbox.given(
            "payments.PaymentRefunded", order_id=order.id, amount={"amount": 5, "currency": "JPY"}
        )
        outbox.deliver_all(only="webhooks")

        sent = next(
            body for one in receiver.requests if "refund" in (body := json.loads(one.body))["data"]
        )
        assert shape(sent) == shape(json.loads(PAGE.blocks("json")[0]))

    def test_names_the_fields_of_the_api_that_a_message_lacks(self):
        """Seen to fail for the fields about refunds."""
        shown = json.loads(PAGE.blocks("json")[0])["data"]["order"]
        (named,) = re.findall(r"It has the fields of `GET[^`]*`,\s+without\s+([^:.]*)", PAGE.prose)

        assert set(names_in(named)) == set(OrderSerializer.Meta.fields) - set(shown)

    def test_names_each_event_type(self):
        shown = [names_in(row[0])[0] for row in PAGE.table("Register a URL")]

        assert shown == list(EventType.values)

    def test_gives_the_real_limits(self):
        assert sending.GIVE_UP_AFTER.days == 3
        assert sending.FIRST_REST.total_seconds() == 5
        assert sending.LONGEST_REST.total_seconds() == 3600
        assert (sending.MOST_AT_ONCE, services.MOST_ENDPOINTS) == (2, 10)
        assert sending.MOST_OF_ONE_OWNER == 2
        assert services.OLD_SECRET_LIFE.total_seconds() == 24 * 3600


def shape(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: shape(part) for name, part in value.items()}
    return [shape(part) for part in value] if isinstance(value, list) else type(value)
