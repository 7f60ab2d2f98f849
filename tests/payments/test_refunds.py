"""Refunds within payments; each delivery runs twice."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from uuid import UUID

import pytest
from django.db import IntegrityError, transaction
from django.utils import timezone
from uuid_utils.compat import uuid7

from outbox.testing import Outbox
from payments import gateway, services
from payments.gateway import Authorization, Capture
from payments.gateway import Refund as RefundAnswer
from payments.models import Payment, Refund
from shared.money import Money
from tests.bank import BankProcess
from tests.payments.orders import TOTAL, cancel, captured, deliver, moves, said, status
from tests.payments.test_services import intend
from tests.threads import run_together

pytestmark = pytest.mark.django_db


def yen(amount: int) -> Money:
    return Money(amount=amount, currency="JPY")


def ask(outbox: Outbox, order_id: UUID, amount: int, *, refund_id: UUID | None = None) -> UUID:
    refund_id = refund_id or uuid7()
    outbox.given(
        "orders.RefundRequested",
        order_id=order_id,
        refund_id=refund_id,
        amount=yen(amount),
        returned=[],
    )
    return refund_id


def ask_the_bank(refund: Refund, *, key: str = "") -> RefundAnswer:
    """As if our request had been carried out and its answer lost."""
    return gateway.current().refund(
        reference=str(refund.payment.order_id),
        capture_id=refund.payment.capture_id,
        amount=refund.total,
        idempotency_key=key or refund.key,
    )


@pytest.fixture
def order_id(outbox: Outbox, bank: BankProcess) -> UUID:
    order_id = uuid7()
    captured(outbox, order_id)
    return order_id


class TestRefundPayment:
    def test_refunds_a_part_and_emits_once(self, outbox: Outbox, bank: BankProcess, order_id: UUID):
        """Seen to give it back twice with a new uuid in `Refund.key` on each call."""
        refund_id = ask(outbox, order_id, 800)

        deliver(outbox, twice=True)

        emitted_event = outbox.emitted("payments.PaymentRefunded")
        assert (emitted_event.order_id, emitted_event.refund_id, emitted_event.amount) == (
            order_id,
            refund_id,
            yen(800),
        )
        assert bank.charges(order_id)["refunds"] == 1
        assert status(order_id) == "captured"

    def test_refunds_once_for_a_repeated_event(
        self, outbox: Outbox, bank: BankProcess, order_id: UUID
    ):
        refund_id = ask(outbox, order_id, 800)
        ask(outbox, order_id, 800, refund_id=refund_id)

        deliver(outbox)

        assert bank.charges(order_id)["refunds"] == 1
        assert said(outbox).count("PaymentRefunded") == 1

    def test_makes_two_refunds_of_the_same_amount(
        self, outbox: Outbox, bank: BankProcess, order_id: UUID
    ):
        asked = {ask(outbox, order_id, 800), ask(outbox, order_id, 800)}

        deliver(outbox, twice=True)

        emitted_events = outbox.all_emitted("payments.PaymentRefunded")
        assert {event.refund_id for event in emitted_events} == asked
        assert bank.charges(order_id)["refunds"] == 2

    def test_ends_the_payment_after_a_full_refund(
        self, outbox: Outbox, bank: BankProcess, order_id: UUID
    ):
        ask(outbox, order_id, 800)
        ask(outbox, order_id, TOTAL.amount - 800)

        deliver(outbox)

        assert moves(order_id)[-2:] == ["captured", "refunded"]

    def test_never_refunds_more_than_was_captured(
        self, outbox: Outbox, bank: BankProcess, order_id: UUID
    ):
        ask(outbox, order_id, TOTAL.amount - 1)
        deliver(outbox)
        ask(outbox, order_id, 2)

        with pytest.raises(services.UnableToRefund):
            deliver(outbox)

        assert bank.charges(order_id)["refunds"] == 1

    def test_fails_without_a_capture(self, outbox: Outbox, bank: BankProcess):
        ask(outbox, uuid7(), 1)

        with pytest.raises(services.UnableToRefund):
            deliver(outbox)

        assert not Payment.objects.exists()

    @pytest.mark.parametrize("is_ours", [True, False])
    def test_queries_the_bank_before_a_request_with_an_old_key(
        self, outbox: Outbox, bank: BankProcess, order_id: UUID, is_ours: bool
    ):
        """The bank made one of that amount. Is it this one, or another, perhaps not asked by us?"""
        refund_id = ask(outbox, order_id, 800)
        refund = services.intend_refund(order_id=order_id, refund_id=refund_id, amount=yen(800))
        assert refund
        ask_the_bank(refund, key=refund.key if is_ours else "another")
        bank.forget(refund.key)
        Refund.objects.filter(pk=refund_id).update(moved_at=timezone.now() - timedelta(days=3))

        deliver(outbox)

        assert Refund.objects.get(pk=refund_id).status == "refunded"
        assert bank.charges(order_id)["refunds"] == (1 if is_ours else 2)


class TestACancellation:
    def test_refunds_the_remaining_amount(self, outbox: Outbox, bank: BankProcess, order_id: UUID):
        ask(outbox, order_id, 800)
        deliver(outbox)
        cancel(outbox, order_id)

        deliver(outbox, twice=True)

        emitted_events = outbox.all_emitted("payments.PaymentRefunded")
        assert [event.amount.amount for event in emitted_events] == [800, TOTAL.amount - 800]
        assert status(order_id) == "refunded"

    def test_waits_for_a_running_refund(self, outbox: Outbox, bank: BankProcess, order_id: UUID):
        refund_id = uuid7()
        services.intend_refund(order_id=order_id, refund_id=refund_id, amount=yen(800))
        cancel(outbox, order_id)
        deliver(outbox)
        assert status(order_id) == "refunding"

        ask(outbox, order_id, 800, refund_id=refund_id)
        deliver(outbox)

        assert status(order_id) == "refunded"
        assert bank.charges(order_id)["refunds"] == 2


class TestARefund:
    def test_has_a_history(self, outbox: Outbox, bank: BankProcess, order_id: UUID):
        refund_id = ask(outbox, order_id, 800)
        deliver(outbox)

        history = Refund.objects.get(pk=refund_id).history.values_list("to_status", "cause")

        assert list(history) == [
            ("intended", "orders.RefundRequested"),
            ("refunded", "the bank's answer"),
        ]

    def test_allows_valid_transitions_only(self, outbox: Outbox, bank: BankProcess, order_id: UUID):
        ask(outbox, order_id, 800)
        deliver(outbox)
        refund = Refund.objects.get()

        with pytest.raises(Refund.InvalidTransition):
            refund.move_to(Refund.Status.REFUNDED, cause="impatience")

    @pytest.mark.parametrize(
        "change", [{"amount": 0}, {"status": "refunded"}, {"bank_id": "ref_1"}], ids=str
    )
    def test_cannot_be_stored_in_an_invalid_state(
        self, outbox: Outbox, bank: BankProcess, order_id: UUID, change: dict[str, object]
    ):
        services.intend_refund(order_id=order_id, refund_id=uuid7(), amount=yen(800))

        with pytest.raises(IntegrityError), transaction.atomic():
            Refund.objects.update(**change)

    def test_cannot_exceed_the_payment(self, outbox: Outbox, bank: BankProcess, order_id: UUID):
        with pytest.raises(IntegrityError), transaction.atomic():
            Payment.objects.update(refund_amount=TOTAL.amount + 1)


@pytest.mark.django_db(transaction=True)
class TestConcurrentRequests:
    def test_refund_the_whole_amount_and_no_more(self, outbox: Outbox):
        """Rule 16. Seen to intend more on PostgreSQL without select_for_update in `locked`."""
        for number in range(5):
            order_id = uuid7()
            intend(order_id)
            held = Authorization(authorization_id=f"auth_{number}", amount=TOTAL)
            services.record_authorization(order_id=order_id, answer=held)
            services.intend_capture(order_id=order_id)
            taken = Capture(
                capture_id=f"cap_{number}", authorization_id=f"auth_{number}", amount=TOTAL
            )
            services.record_capture(order_id=order_id, answer=taken)

            half = Money(amount=TOTAL.amount // 2, currency="JPY")
            refunds = [
                partial(services.intend_refund, order_id=order_id, refund_id=uuid7(), amount=half)
                for _ in range(2)
            ]
            run_together([*refunds, partial(services.intend_reversal, order_id=order_id)])

            payment = Payment.objects.get(order_id=order_id)
            assert sum(one.amount for one in payment.refunds.all()) == TOTAL.amount
            assert payment.refund_amount == TOTAL.amount
