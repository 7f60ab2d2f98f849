"""The lines of the demo about one order."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from outbox.monitor.timeline import FailedAttempt, TimelineDelivery, TimelineEvent
from shop.demo.timeline import timeline_lines

NOON = datetime(2026, 11, 25, 12, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def event(name: str, seconds: float, *deliveries: TimelineDelivery, **given: Any) -> TimelineEvent:
    defaults: dict[str, Any] = {
        "id": uuid4(),
        "key": "order",
        "emitted_by": "",
        "actor": "user:7",
        "causation_id": None,
        "payload": {},
    }
    return TimelineEvent(
        seq=1,
        name=name,
        emitted_at=at(seconds),
        correlation_id=UUID(int=1),
        depth=0,
        deliveries=deliveries,
        **{**defaults, **given},
    )


def delivery(handler: str, start: float, end: float, **given: Any) -> TimelineDelivery:
    defaults: dict[str, Any] = {
        "state": "done",
        "attempts": 1,
        "token": 1,
        "settled_at": at(end),
        "why": "",
    }
    return TimelineDelivery(
        id=1,
        handler=handler,
        due_at=at(end),
        started_at=at(start),
        **{**defaults, **given},
    )


def failure(start: float, end: float, **given: str) -> FailedAttempt:
    defaults = {"outcome": "failed", "exception": "OutcomeUnknown", "message": "No answer.\n"}
    return FailedAttempt(number=1, started_at=at(start), ended_at=at(end), **{**defaults, **given})


class TestTimelineLines:
    def test_show_emitter_event_time_and_duration(self):
        placed = event("orders.OrderPlaced", 0, delivery("inventory.reserve_stock", 0.2, 0.23))
        reserved = event(
            "inventory.StockReserved",
            0.23,
            emitted_by="inventory.reserve_stock",
            causation_id=placed.id,
        )

        lines = timeline_lines([placed, reserved], customer="alice")

        assert lines == [
            "    0.00 s  alice emitted OrderPlaced: "
            "an order is stored and waits for stock and payment",
            "    0.23 s  inventory.reserve_stock emitted StockReserved: "
            "all units of the order are reserved (30 ms)",
        ]

    def test_are_sorted_by_time(self):
        later = event("orders.OrderConfirmed", 2)
        earlier = event("inventory.StockReserved", 1)

        lines = timeline_lines([later, earlier], customer="alice")

        assert ["StockReserved" in line for line in lines] == [True, False]

    def test_show_failures_and_the_successful_attempt(self):
        asked = delivery(
            "payments.authorize_payment", 3, 3.5, attempts=2, token=2, failures=[failure(0.1, 1.3)]
        )
        placed = event("orders.OrderPlaced", 0, asked)
        authorized = event(
            "payments.PaymentAuthorized",
            3.5,
            emitted_by="payments.authorize_payment",
            causation_id=placed.id,
        )

        lines = timeline_lines([placed, authorized], customer="alice")

        assert lines[1].endswith(
            "1.30 s  payments.authorize_payment: attempt 1 failed after 1.2 s: "
            "OutcomeUnknown: No answer"
        )
        assert lines[2].endswith("(500 ms, attempt 2)")

    @pytest.mark.parametrize(
        ("outcome", "words"),
        [("died", "worker died"), ("lease_lost", "lease expired")],
    )
    def test_explain_a_failure_without_an_exception(self, outcome: str, words: str):
        killed = delivery(
            "orders.record_stock_reserved",
            *(5, 6),
            attempts=2,
            token=2,
            failures=[failure(0, 4, outcome=outcome, exception="", message="")],
        )

        lines = timeline_lines([event("inventory.StockReserved", 0, killed)], customer="alice")

        assert lines[1].endswith(f"attempt 1 failed after 4.0 s: {words}")

    @pytest.mark.parametrize(("token", "words"), [(2, "again once:"), (4, "again 3 times:")])
    def test_show_messages_that_no_worker_started(self, token: int, words: str):
        lost = delivery("orders.record_stock_reserved", 5, 6, token=token)

        lines = timeline_lines([event("inventory.StockReserved", 0, lost)], customer="alice")

        assert len(lines) == 2
        assert words in lines[1]

    def test_show_each_email(self):
        sent = delivery("notifications.acknowledge_order", 1, 1.5)

        lines = timeline_lines([event("orders.OrderPlaced", 0, sent)], customer="alice")

        assert lines[1] == "    1.50 s  notifications.acknowledge_order sent an e-mail"

    def test_show_each_publication(self):
        sent = delivery("sinks.carrier", 1, 1.5)

        lines = timeline_lines([event("orders.OrderPlaced", 0, sent)], customer="alice")

        assert lines[1] == "    1.50 s  sinks.carrier published OrderPlaced (500 ms)"

    def test_show_the_source_of_an_answer_and_the_emitter_of_its_effect(self):
        answer = event("carrier.ParcelBooked", 1, actor="source:carrier")
        effect = event(
            "orders.OrderShipped", 2, actor="source:carrier", emitted_by="shipping.ship_order"
        )

        lines = timeline_lines([answer, effect], customer="alice")

        assert "the source carrier received ParcelBooked" in lines[0]
        assert "shipping.ship_order emitted OrderShipped" in lines[1]

    def test_show_why_a_delivery_is_not_done(self):
        dead = delivery(
            "orders.record_stock_reserved",
            1,
            2,
            state="dead",
            settled_at=None,
            why="Dead after 45 attempts.",
        )

        lines = timeline_lines([event("inventory.StockReserved", 0, dead)], customer="alice")

        assert lines[1].endswith("orders.record_stock_reserved is dead: Dead after 45 attempts.")

    def test_show_the_reason_in_an_event(self):
        declined = event("payments.PaymentDeclined", 0, payload={"reason": "insufficient_funds"})

        lines = timeline_lines([declined], customer="alice")

        assert "PaymentDeclined (insufficient_funds): the bank declined the payment" in lines[0]

    def test_show_the_job_that_emitted_an_event(self):
        overdue = event("orders.OrderCancelled", 0, actor="job:orders.cancel_overdue")

        lines = timeline_lines([overdue], customer="alice")

        assert "job:orders.cancel_overdue emitted OrderCancelled" in lines[0]
