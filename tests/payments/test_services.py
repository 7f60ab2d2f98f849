from __future__ import annotations

from dataclasses import replace
from functools import partial
from uuid import UUID

import pytest
from django.db import IntegrityError, transaction
from uuid_utils.compat import uuid7

from outbox.testing import Outbox
from payments import services
from payments.gateway import Authorization, Capture
from payments.gateway import Refund as RefundAnswer
from payments.models import Payment, PaymentHistory, Refund, Status
from shared.money import Money
from tests.payments.orders import TOTAL, moves, said_of, status
from tests.threads import run_together

HELD = Authorization(authorization_id="auth_1", amount=TOTAL)
TAKEN = Capture(capture_id="cap_1", authorization_id="auth_1", amount=TOTAL)
OTHER_AMOUNTS = [
    Money(amount=300, currency="JPY"),
    Money(amount=TOTAL.amount + 1, currency="JPY"),
    Money(amount=TOTAL.amount, currency="USD"),
]


def intend(order_id: UUID) -> Payment:
    return services.intend_payment(order_id=order_id, total=TOTAL, payment_method="tok_success")


@pytest.mark.django_db(transaction=True)
class TestConcurrentHandlers:
    def test_of_order_and_cancellation_see_each_other(self, outbox: Outbox):
        """Whichever comes first, the bank is not asked, or the cancellation is remembered."""
        for _ in range(10):
            order_id = uuid7()

            run_together(
                [
                    partial(intend, order_id),
                    partial(services.intend_reversal, order_id=order_id),
                ]
            )

            payment = Payment.objects.get(order_id=order_id)
            assert payment.cancelled_at
            assert moves(order_id) in (["intended"], ["forestalled"])

    def test_that_record_the_same_answer_emit_once(self, outbox: Outbox):
        """Rule 16. Seen to emit three times on PostgreSQL without select_for_update in `locked`."""
        for _ in range(5):
            order_id = uuid7()
            intend(order_id)

            run_together(
                [partial(services.record_authorization, order_id=order_id, answer=HELD)] * 4
            )

            assert said_of(outbox, order_id) == ["PaymentAuthorized"]

    def test_of_answer_and_cancellation_see_each_other(self, outbox: Outbox):
        """The money is on its way back, or will be when the reversal looks again.

        Rule 16. Seen to be forgotten on PostgreSQL without select_for_update in `locked`.
        """
        for _ in range(10):
            order_id = uuid7()
            intend(order_id)

            run_together(
                [
                    partial(services.record_authorization, order_id=order_id, answer=HELD),
                    partial(services.intend_reversal, order_id=order_id),
                ]
            )

            is_emitted = said_of(outbox, order_id) == ["PaymentAuthorized"]
            assert status(order_id) == ("voiding" if is_emitted else "authorized")
            assert services.intend_reversal(order_id=order_id).status == Status.VOIDING

    def test_of_a_late_request_and_a_cancellation_see_each_other(self, outbox: Outbox):
        """The request is made and the cancellation knows when, or it is never made."""
        for _ in range(10):
            order_id = uuid7()
            intend(order_id)
            answers: list[bool] = []

            def look(order_id: UUID = order_id, answers: list[bool] = answers) -> None:
                answers.append(
                    services.may_still_request(order_id=order_id, status=Status.INTENDED)
                )

            run_together([look, partial(services.intend_reversal, order_id=order_id)])

            payment = Payment.objects.get(order_id=order_id)
            assert payment.cancelled_at
            expected = ("intended", True) if answers == [True] else ("forestalled", False)
            assert (payment.status, payment.asked_at is not None) == expected


@pytest.mark.django_db(transaction=True)
class TestAnIntent:
    @pytest.mark.parametrize(
        "service",
        [intend, lambda order_id: services.intend_reversal(order_id=order_id)],
        ids=["payment", "reversal"],
    )
    def test_is_committed_separately(self, service: object):
        """Rule 8: a caller with a transaction of its own would ask the bank before the commit."""
        assert callable(service)

        with transaction.atomic(), pytest.raises(RuntimeError, match="durable"):
            service(uuid7())


@pytest.mark.django_db
class TestPayment:
    def test_allows_valid_transitions_only(self):
        payment = intend(uuid7())

        with pytest.raises(Payment.InvalidTransition, match="from intended to captured"):
            payment.move_to(Status.CAPTURED, cause="impatience")

        assert moves(payment.order_id) == ["intended"]

    def test_records_the_cause_of_each_transition(self):
        order_id = uuid7()
        intend(order_id)
        services.record_authorization(order_id=order_id, answer=HELD)

        history = Payment.objects.get().history.all()

        assert [(move.from_status, move.to_status, move.cause) for move in history] == [
            ("", "intended", "orders.OrderPlaced"),
            ("intended", "authorized", "the bank's answer"),
        ]

    def test_has_a_separate_key_for_each_operation(self):
        one, other = intend(uuid7()), intend(uuid7())

        keys = {
            key
            for payment in (one, other)
            for key in (
                payment.authorize_key,
                payment.capture_key,
                payment.void_key,
            )
        }

        assert len(keys) == 6
        assert intend(one.order_id).authorize_key == one.authorize_key

    @pytest.mark.parametrize(
        "change",
        [
            {"status": "lost"},
            {"amount": 0},
            {"currency": ""},
            {"payment_method": ""},
            {"status": Status.AUTHORIZED},
            {"status": Status.CAPTURED, "authorization_id": "auth_1"},
            {"status": Status.VOIDED, "authorization_id": "auth_1"},
            {"refund_amount": 1},
            {"status": Status.DECLINED},
            {"declined_reason": "insufficient_funds"},
            {"status": Status.FORESTALLED},
        ],
        ids=str,
    )
    def test_cannot_be_stored_in_an_invalid_state(self, change: dict[str, object]):
        payment = intend(uuid7())

        with pytest.raises(IntegrityError), transaction.atomic():
            Payment.objects.filter(pk=payment.pk).update(**change)


@pytest.mark.django_db
class TestACancelledOrder:
    def test_is_not_captured_although_it_is_authorized(self, outbox: Outbox):
        """Seen to be captured without the look at `cancelled_at` in `intend_capture`."""
        order_id = uuid7()
        intend(order_id)
        services.intend_reversal(order_id=order_id)
        services.record_authorization(order_id=order_id, answer=HELD)

        payment = services.intend_capture(order_id=order_id)

        assert payment.status == Status.AUTHORIZED
        assert said_of(outbox, order_id) == []


@pytest.mark.django_db
class TestARecord:
    def test_of_no_answer_changes_nothing(self):
        order_id = uuid7()
        intend(order_id)

        services.record_authorization(order_id=order_id, answer=None)
        services.record_capture(order_id=order_id, answer=None)
        services.record_void(order_id=order_id, answer=None)
        services.record_refund(order_id=order_id, refund_id=uuid7(), answer=None)

        assert moves(order_id) == ["intended"]

    def test_of_an_unexpected_answer_changes_nothing(self):
        order_id = uuid7()
        intend(order_id)

        services.record_capture(order_id=order_id, answer=TAKEN)

        assert moves(order_id) == ["intended"]

    @pytest.mark.parametrize("amount", OTHER_AMOUNTS, ids=str)
    def test_of_another_held_amount_is_refused(self, outbox: Outbox, amount: Money):
        """Seen to be emitted, and shipped, as the whole amount."""
        order_id = uuid7()
        intend(order_id)
        answer = replace(HELD, amount=amount)

        with pytest.raises(services.OtherAmount, match=r"12,800 was requested.*Cancel the order"):
            services.record_authorization(order_id=order_id, answer=answer)

        assert (moves(order_id), said_of(outbox, order_id)) == (["intended"], [])

    @pytest.mark.parametrize("amount", OTHER_AMOUNTS, ids=str)
    def test_of_another_captured_amount_is_refused(self, outbox: Outbox, amount: Money):
        order_id = uuid7()
        intend(order_id)
        services.record_authorization(order_id=order_id, answer=HELD)
        services.intend_capture(order_id=order_id)

        with pytest.raises(
            services.OtherAmount, match=rf"{order_id}.*the captured amount is refunded"
        ):
            services.record_capture(order_id=order_id, answer=replace(TAKEN, amount=amount))

        assert status(order_id) == "capturing"
        assert said_of(outbox, order_id) == ["PaymentAuthorized"]

    @pytest.mark.parametrize("amount", OTHER_AMOUNTS, ids=str)
    def test_of_another_refunded_amount_is_refused(self, outbox: Outbox, amount: Money):
        order_id, refund_id = uuid7(), uuid7()
        intend(order_id)
        services.record_authorization(order_id=order_id, answer=HELD)
        services.intend_capture(order_id=order_id)
        services.record_capture(order_id=order_id, answer=TAKEN)
        services.intend_refund(order_id=order_id, refund_id=refund_id, amount=TOTAL)
        answer = RefundAnswer(refund_id="ref_1", capture_id="cap_1", amount=amount)

        with pytest.raises(services.OtherAmount, match="Repay the customer the difference"):
            services.record_refund(order_id=order_id, refund_id=refund_id, answer=answer)

        assert Refund.objects.get().status == "intended"
        assert "PaymentRefunded" not in said_of(outbox, order_id)

    def test_of_another_held_amount_is_voided_if_the_order_is_cancelled(self, outbox: Outbox):
        order_id = uuid7()
        intend(order_id)
        services.intend_reversal(order_id=order_id)
        services.record_authorization(
            order_id=order_id, answer=replace(HELD, amount=OTHER_AMOUNTS[0])
        )

        services.intend_reversal(order_id=order_id)

        assert status(order_id) == "voiding"

    @pytest.mark.parametrize("amount", OTHER_AMOUNTS[:2], ids=str)
    def test_of_another_captured_amount_is_refunded_if_the_order_is_cancelled(
        self, outbox: Outbox, amount: Money
    ):
        """Failed at each attempt: the payment stayed in capturing for good."""
        order_id = captured_while_cancelled(amount)

        services.intend_reversal(order_id=order_id)

        assert status(order_id) == "refunding"
        refund = Refund.objects.get()
        assert refund.total == amount
        cause = PaymentHistory.objects.get(to_status=Status.CAPTURED).cause
        assert cause == f"the bank's answer: {amount.format()} instead of ¥12,800"
        answer = RefundAnswer(refund_id="ref_1", capture_id="cap_1", amount=amount)
        services.record_refund(order_id=order_id, refund_id=refund.id, answer=answer)
        assert status(order_id) == "refunded"
        assert said_of(outbox, order_id)[1:] == ["PaymentRefunded"]

    @pytest.mark.parametrize("amount", [OTHER_AMOUNTS[2], Money(amount=0, currency="JPY")], ids=str)
    def test_of_what_cannot_be_refunded_is_refused_although_the_order_is_cancelled(
        self, amount: Money
    ):
        with pytest.raises(services.OtherAmount, match=r"12,800 was requested.*at the bank"):
            captured_while_cancelled(amount)


def captured_while_cancelled(amount: Money) -> UUID:
    """Let the bank's answer to the capture of a cancelled order be about this amount."""
    order_id = uuid7()
    intend(order_id)
    services.record_authorization(order_id=order_id, answer=HELD)
    services.intend_capture(order_id=order_id)
    services.intend_reversal(order_id=order_id)
    services.record_capture(order_id=order_id, answer=replace(TAKEN, amount=amount))
    return order_id
