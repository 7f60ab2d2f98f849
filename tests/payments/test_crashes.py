from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from itertools import count
from typing import Any
from uuid import UUID

import pytest
from uuid_utils.compat import uuid7

from outbox.testing import Outbox
from payments import bank_requests, services
from tests.bank import BankProcess
from tests.payments.orders import (
    TOTAL,
    authorized,
    cancel,
    captured,
    confirm,
    deliver,
    place,
    retry,
    said_of,
    status,
)

STEPS = {
    bank_requests: ("authorization", "capture", "void", "refund"),
    services: (
        "intend_payment",
        "record_authorization",
        "intend_capture",
        "record_capture",
        "intend_reversal",
        "record_void",
        "record_refund",
    ),
}


class Crash(Exception):
    """The process is gone between two steps."""


class Steps:
    """Counts the steps that handlers take, and crashes after one of them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._left = 0
        for module, names in STEPS.items():
            for name in names:
                monkeypatch.setattr(module, name, self._counted(getattr(module, name)))

    def crash_after(self, steps: int) -> None:
        self._left = steps

    def _counted(self, step: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(step)
        def counted(*args: Any, **kwargs: Any) -> Any:
            result = step(*args, **kwargs)
            self._left -= 1
            if self._left == 0:
                raise Crash
            return result

        return counted


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> Steps:
    return Steps(monkeypatch)


def to_authorize(outbox: Outbox, order_id: UUID) -> None:
    place(outbox, order_id)


def to_decline(outbox: Outbox, order_id: UUID) -> None:
    place(outbox, order_id, payment_method="tok_declined")


def to_capture(outbox: Outbox, order_id: UUID) -> None:
    authorized(outbox, order_id)
    confirm(outbox, order_id)


def to_decline_at_capture(outbox: Outbox, order_id: UUID) -> None:
    place(outbox, order_id, payment_method="tok_declined_at_capture")
    deliver(outbox)
    confirm(outbox, order_id)


def to_void(outbox: Outbox, order_id: UUID) -> None:
    authorized(outbox, order_id)
    cancel(outbox, order_id)


def to_refund(outbox: Outbox, order_id: UUID) -> None:
    captured(outbox, order_id)
    cancel(outbox, order_id)


def to_void_what_was_asked_for(outbox: Outbox, order_id: UUID) -> None:
    services.intend_payment(order_id=order_id, total=TOTAL, payment_method="tok_success")
    cancel(outbox, order_id)


def to_refund_what_was_asked_for(outbox: Outbox, order_id: UUID) -> None:
    authorized(outbox, order_id)
    services.intend_capture(order_id=order_id)
    cancel(outbox, order_id)


HELD, TAKEN = {"authorizations": 1}, {"authorizations": 1, "captures": 1}


@pytest.mark.django_db(transaction=True)
class TestACrashBetweenAnyTwoSteps:
    @pytest.mark.parametrize(
        ("prepare", "end", "charges", "emitted"),
        [
            (to_authorize, "authorized", HELD, ["PaymentAuthorized"]),
            (to_decline, "declined", {"declines": 1}, ["PaymentDeclined"]),
            (to_capture, "captured", TAKEN, ["PaymentAuthorized", "PaymentCaptured"]),
            (
                to_decline_at_capture,
                "declined",
                {"declines": 1},
                ["PaymentAuthorized", "PaymentDeclined"],
            ),
            (to_void, "voided", {**HELD, "voids": 1}, ["PaymentAuthorized", "PaymentVoided"]),
            (
                to_refund,
                "refunded",
                {**TAKEN, "refunds": 1},
                ["PaymentAuthorized", "PaymentCaptured", "PaymentRefunded"],
            ),
            (to_void_what_was_asked_for, "voided", {**HELD, "voids": 1}, ["PaymentVoided"]),
            (
                to_refund_what_was_asked_for,
                "refunded",
                {**TAKEN, "refunds": 1},
                ["PaymentAuthorized", "PaymentRefunded"],
            ),
        ],
        ids=lambda value: value.__name__ if callable(value) else "",
    )
    def test_moves_the_money_once_and_says_so_once(
        self,
        outbox: Outbox,
        bank: BankProcess,
        steps: Steps,
        prepare: Callable[[Outbox, UUID], None],
        end: str,
        charges: dict[str, int],
        emitted: list[str],
    ):
        """Rule 8. Seen to charge twice with a new uuid in `Payment.authorize_key` on each call."""
        for step in count(1):
            order_id = uuid7()
            prepare(outbox, order_id)

            steps.crash_after(step)
            results = outbox.deliver_all(only="payments", raise_errors=False)
            errors = [result.error for result in results if result.error]
            retry()
            deliver(outbox)

            assert (status(order_id), bank.charges(order_id)) == (end, charges), step
            assert said_of(outbox, order_id) == emitted, step
            if not errors:
                break
            assert [type(error) for error in errors] == [Crash]
        assert step > 3, "The handlers took no steps that could crash."
