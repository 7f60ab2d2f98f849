"""Each event of the shop and of the outbox has a sentence that says more than its name."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from django.apps import apps
from django.conf import settings
from django.utils import translation
from pydantic_core import PydanticUndefined

from outbox import DomainEvent, events
from payments.events import PaymentCaptured
from shared.money import Money

ONE_ID = UUID("01a223c2-fcd1-71d8-a569-b7b1ea24f650")
VALUES: dict[str, Any] = {
    "order_id": ONE_ID,
    "refund_id": ONE_ID,
    "resend_id": ONE_ID,
    "request_id": ONE_ID,
    "user_id": 7,
    "user_ids": [7],
    "about_id": ONE_ID,
    "endpoint_id": ONE_ID,
    "message_ids": [ONE_ID, ONE_ID],
    "order_ids": [ONE_ID],
    "owner_id": 7,
    "subject": "user:7",
    "total": Money(amount=12800, currency="JPY"),
    "amount": Money(amount=12800, currency="JPY"),
    "lines": [{"sku": "MUG", "quantity": 2}, {"sku": "TEA", "quantity": 1}],
    "returned": [{"sku": "MUG", "quantity": 2}, {"sku": "TEA", "quantity": 1}],
    "missing": [
        {"sku": "MUG", "wanted": 2, "available": 1},
        {"sku": "TEA", "wanted": 2, "available": 1},
    ],
    "reason": "out_of_stock",
    "args": [],
    "kwargs": {},
    "headers": {},
    "enqueued_at": datetime(2026, 11, 28, tzinfo=UTC),
}


def own_events() -> list[type[DomainEvent]]:
    """Return the events that the apps of this repository declare."""
    ours = [
        config.name
        for config in apps.get_app_configs()
        if config.path.startswith(str(settings.BASE_DIR)) and "site-packages" not in config.path
    ]
    return [
        kind
        for kinds in events.registry.values()
        for kind in kinds
        if any(kind.__module__.startswith(f"{name}.") for name in ours)
    ]


def example(kind: type[DomainEvent]) -> DomainEvent:
    """Return an event with a value for each required field: a known one, or its name."""
    fields = {
        name: VALUES.get(name, f"the {name}")
        for name, field in kind.model_fields.items()
        if field.default is PydanticUndefined and field.default_factory is None
    }
    return kind.model_validate(fields)


class TestTheSentenceOfAnEvent:
    def test_is_meant_for_all_events_of_the_shop_and_the_outbox(self):
        names = {kind.event_name for kind in own_events()}

        assert {
            "orders.OrderPlaced",
            "payments.PaymentDeclined",
            "webhooks.MessagesWritten",
        } <= names
        assert {"outbox.Settled", "outbox.TaskEnqueued", "outbox.SubjectRedacted"} <= names

    def test_says_more_than_its_name(self):
        poor = [
            kind.event_name
            for kind in own_events()
            if example(kind).in_words() == events.words_of_name(kind.event_name)
        ]

        assert poor == []

    def test_has_no_id_of_a_row_no_repr_and_no_minor_units(self):
        wrong = re.compile(rf"{ONE_ID}|[{{}}\[\]<>]|\b12800\b|amount=")

        found = {
            kind.event_name: words
            for kind in own_events()
            if wrong.search(words := example(kind).in_words())
        }

        assert found == {}

    @pytest.mark.parametrize(("language", "amount"), [("en", "¥12,800"), ("ja", "￥12,800")])
    def test_has_money_in_the_notation_of_the_language(self, language: str, amount: str):
        with translation.override(language):
            words = example(PaymentCaptured).in_words()

        assert amount in words

    def test_has_the_punctuation_of_japanese(self):
        with translation.override("ja"):
            words = [example(kind).in_words() for kind in own_events()]

        assert [one for one in words if re.search(r"[,;] |\.$", one)] == []
