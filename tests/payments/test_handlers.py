from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from django.db import connection
from django.utils import timezone
from pytest_django import Settings
from uuid_utils.compat import uuid7

from outbox import NotCalled
from outbox.testing import Outbox
from payments import bank_requests, gateway, services
from payments.gateway import BankGateway, GatewayUnavailable, OutcomeUnknown
from payments.models import Payment
from tests.bank import BankProcess
from tests.closed_port import port_of_nobody
from tests.payments.orders import (
    TOTAL,
    authorized,
    cancel,
    captured,
    confirm,
    deliver,
    moves,
    owed,
    place,
    retry,
    said,
    set_attempts,
    settle_as_dead,
    status,
)
from tests.payments.test_gateway import IMPATIENT

DAYS = timedelta(days=3)

pytestmark = pytest.mark.django_db


@pytest.fixture
def order_id() -> UUID:
    return uuid7()


class TestAuthorizePayment:
    @pytest.mark.parametrize("token", ["tok_success", "tok_slow"])
    def test_holds_the_money(self, outbox: Outbox, bank: BankProcess, order_id: UUID, token: str):
        place(outbox, order_id, payment_method=token)

        deliver(outbox)

        emitted_event = outbox.emitted("payments.PaymentAuthorized")
        assert (emitted_event.order_id, emitted_event.amount) == (order_id, TOTAL)
        assert bank.charges(order_id) == {"authorizations": 1}
        assert moves(order_id) == ["intended", "authorized"]

    def test_emits_a_decline(self, outbox: Outbox, bank: BankProcess, order_id: UUID):
        place(outbox, order_id, payment_method="tok_declined")

        deliver(outbox)

        emitted_event = outbox.emitted("payments.PaymentDeclined")
        assert (emitted_event.order_id, emitted_event.reason) == (order_id, "insufficient_funds")
        assert bank.charges(order_id) == {"declines": 1}
        assert status(order_id) == "declined"

    def test_charges_and_emits_once_if_it_runs_twice(
        self, outbox: Outbox, bank: BankProcess, order_id: UUID
    ):
        """Seen to charge twice with a new uuid in `Payment.authorize_key` on each call."""
        place(outbox, order_id)

        deliver(outbox, twice=True)

        assert said(outbox) == ["PaymentAuthorized"]
        assert bank.charges(order_id) == {"authorizations": 1}

    def test_charges_and_emits_once_for_a_repeated_event(
        self, outbox: Outbox, bank: BankProcess, order_id: UUID
    ):
        place(outbox, order_id)
        place(outbox, order_id)

        deliver(outbox)

        assert said(outbox) == ["PaymentAuthorized"]
        assert bank.charges(order_id) == {"authorizations": 1}

    def test_stays_owed_during_an_outage_of_the_bank_and_charges_once(
        self, outbox: Outbox, bank: BankProcess, order_id: UUID, settings: Settings
    ):
        settings.BANK_URL = f"http://127.0.0.1:{port_of_nobody()}"
        place(outbox, order_id)

        with pytest.raises(GatewayUnavailable):
            deliver(outbox)

        assert (owed("authorize_payment"), status(order_id)) == ("pending", "intended")
        settings.BANK_URL = bank.url
        retry()
        deliver(outbox)
        assert said(outbox) == ["PaymentAuthorized"]
        assert bank.charges(order_id) == {"authorizations": 1}

    def test_treats_a_time_out_as_unknown_and_charges_once(
        self, outbox: Outbox, bank: BankProcess, order_id: UUID, settings: Settings
    ):
        settings.BANK_TIMEOUT_SECONDS = IMPATIENT
        place(outbox, order_id, payment_method="tok_slow")

        with pytest.raises(OutcomeUnknown):
            deliver(outbox)

        assert (said(outbox), status(order_id)) == ([], "intended")
        del settings.BANK_TIMEOUT_SECONDS
        retry()
        deliver(outbox)
        assert said(outbox) == ["PaymentAuthorized"]
        assert bank.charges(order_id) == {"authorizations": 1}

    @pytest.mark.parametrize("age", [timedelta(hours=13), timedelta(days=3)], ids=str)
    def test_queries_the_bank_before_a_request_with_an_old_key(
        self, outbox: Outbox, bank: BankProcess, order_id: UUID, age: timedelta
    ):
        """As if the bank had forgotten our key: it is charged under another one.

        Rule 8. Seen to charge twice without the look in `asking`.
        """
        payment = intend(order_id, age=age)
        held = gateway.current().authorize(
            reference=str(order_id),
            amount=TOTAL,
            payment_method="tok_success",
            idempotency_key=f"{payment.authorize_key}-forgotten",
        )
        place(outbox, order_id)

        deliver(outbox)

        assert bank.charges(order_id) == {"authorizations": 1}
        assert Payment.objects.get().authorization_id == held.authorization_id
        assert said(outbox) == ["PaymentAuthorized"]

    def test_requests_with_an_old_key_if_the_bank_has_no_record(
        self, outbox: Outbox, bank: BankProcess, order_id: UUID
    ):
        intend(order_id, age=timedelta(days=3))
        place(outbox, order_id)

        deliver(outbox)

        assert bank.charges(order_id) == {"authorizations": 1}

    @pytest.mark.parametrize(
        ("age", "asked"),
        [
            (timedelta(hours=12, seconds=1), None),
            (timedelta(hours=12, seconds=1), timedelta(days=9)),
            (timedelta(days=3), timedelta()),
        ],
        ids=["perhaps asked as the key grew old", "asked for something before", "asked just now"],
    )
    def test_treats_not_found_as_final_only_after_the_processing_time(
        self,
        outbox: Outbox,
        bank: BankProcess,
        order_id: UUID,
        settings: Settings,
        age: timedelta,
        asked: timedelta | None,
    ):
        """A request that we gave up waiting for may be carried out between look and ask."""
        intend(order_id, age=age)
        if asked is not None:
            services.record_bank_request(order_id=order_id)
            Payment.objects.update(asked_at=timezone.now() - asked)
        place(outbox, order_id)

        with pytest.raises(NotCalled, match="may still be processing"):
            deliver(outbox)

        assert bank.charges(order_id) == {}
        settings.BANK_PROCESSING_SECONDS = 0.0
        retry()
        deliver(outbox)
        assert bank.charges(order_id) == {"authorizations": 1}

    @pytest.mark.parametrize(
        "token", ["tok_fails_1", "tok_hangs_up_1", "tok_hangs_up_after_success", "tok_busy_1"]
    )
    def test_charges_and_emits_once_after_a_failure_of_the_bank(
        self, outbox: Outbox, bank: BankProcess, order_id: UUID, token: str
    ):
        place(outbox, order_id, payment_method=token)

        with pytest.raises((OutcomeUnknown, GatewayUnavailable)):
            deliver(outbox)
        retry()
        deliver(outbox)

        assert said(outbox) == ["PaymentAuthorized"]
        assert bank.charges(order_id) == {"authorizations": 1}


class TestCapturePayment:
    def test_captures_the_payment(self, outbox: Outbox, bank: BankProcess, order_id: UUID):
        authorized(outbox, order_id)
        confirm(outbox, order_id)

        deliver(outbox)

        emitted_event = outbox.emitted("payments.PaymentCaptured")
        assert (emitted_event.order_id, emitted_event.amount) == (order_id, TOTAL)
        assert bank.charges(order_id) == {"authorizations": 1, "captures": 1}
        assert moves(order_id)[2:] == ["capturing", "captured"]

    def test_captures_once_if_it_runs_twice(
        self, outbox: Outbox, bank: BankProcess, order_id: UUID
    ):
        authorized(outbox, order_id)
        confirm(outbox, order_id)
        confirm(outbox, order_id)

        deliver(outbox, twice=True)

        assert said(outbox) == ["PaymentAuthorized", "PaymentCaptured"]
        assert bank.charges(order_id) == {"authorizations": 1, "captures": 1}

    @pytest.mark.parametrize("token", [None, "tok_declined"])
    def test_fails_without_an_authorization(
        self, outbox: Outbox, bank: BankProcess, order_id: UUID, token: str | None
    ):
        if token:
            place(outbox, order_id, payment_method=token)
            deliver(outbox)
        confirm(outbox, order_id)

        with pytest.raises(services.UnableToCapture):
            deliver(outbox)

        assert "captures" not in bank.charges(order_id)
        assert Payment.objects.filter(status="").count() == 0

    def test_emits_a_decline_at_capture_once(
        self, outbox: Outbox, bank: BankProcess, order_id: UUID
    ):
        place(outbox, order_id, payment_method="tok_declined_at_capture")
        deliver(outbox)
        confirm(outbox, order_id)
        confirm(outbox, order_id)

        deliver(outbox, twice=True)

        emitted_event = outbox.emitted("payments.PaymentDeclined")
        assert (emitted_event.order_id, emitted_event.reason) == (order_id, "expired_card")
        assert moves(order_id) == ["intended", "authorized", "capturing", "declined"]
        assert bank.charges(order_id) == {"declines": 1}

    def test_finds_a_decline_at_capture_whose_key_is_old(
        self, outbox: Outbox, bank: BankProcess, order_id: UUID
    ):
        place(outbox, order_id, payment_method="tok_declined_at_capture")
        deliver(outbox)
        payment = aged(services.intend_capture(order_id=order_id), DAYS)
        gateway.current().capture(
            authorization_id=payment.authorization_id,
            amount=TOTAL,
            idempotency_key=f"{payment.capture_key}-forgotten",
        )
        confirm(outbox, order_id)

        deliver(outbox)

        assert outbox.emitted("payments.PaymentDeclined").reason == "expired_card"

    def test_finds_a_capture_whose_key_is_old(
        self, outbox: Outbox, bank: BankProcess, order_id: UUID
    ):
        authorized(outbox, order_id)
        payment = aged(services.intend_capture(order_id=order_id), timedelta(days=3))
        taken = gateway.current().capture(
            authorization_id=payment.authorization_id,
            amount=TOTAL,
            idempotency_key="forgotten-" + payment.capture_key,
        )
        confirm(outbox, order_id)

        deliver(outbox)

        assert Payment.objects.get().capture_id == taken.capture_id
        assert said(outbox) == ["PaymentAuthorized", "PaymentCaptured"]


class TestVoidOrRefund:
    def test_voids_an_authorization(self, outbox: Outbox, bank: BankProcess, order_id: UUID):
        authorized(outbox, order_id)
        cancel(outbox, order_id)

        deliver(outbox, twice=True)

        emitted_event = outbox.emitted("payments.PaymentVoided")
        assert (emitted_event.order_id, emitted_event.amount) == (order_id, TOTAL)
        assert bank.charges(order_id) == {"authorizations": 1, "voids": 1}
        assert status(order_id) == "voided"

    def test_refunds_a_capture(self, outbox: Outbox, bank: BankProcess, order_id: UUID):
        captured(outbox, order_id)
        cancel(outbox, order_id)

        deliver(outbox, twice=True)

        emitted_event = outbox.emitted("payments.PaymentRefunded")
        assert (emitted_event.order_id, emitted_event.amount) == (order_id, TOTAL)
        assert bank.charges(order_id) == {"authorizations": 1, "captures": 1, "refunds": 1}
        assert status(order_id) == "refunded"

    def test_does_nothing_after_a_decline(self, outbox: Outbox, bank: BankProcess, order_id: UUID):
        place(outbox, order_id, payment_method="tok_declined")
        deliver(outbox)
        cancel(outbox, order_id)

        deliver(outbox)

        assert said(outbox) == ["PaymentDeclined"]
        assert bank.charges(order_id) == {"declines": 1}

    def test_that_runs_first_prevents_the_authorization(
        self, outbox: Outbox, bank: BankProcess, order_id: UUID
    ):
        """Rule 17. Seen to charge with NEW removed from the way back of `intend_reversal`."""
        cancel(outbox, order_id)
        deliver(outbox)
        place(outbox, order_id)
        confirm(outbox, order_id)

        deliver(outbox, twice=True)

        assert said(outbox) == []
        assert bank.charges(order_id) == {}
        assert moves(order_id) == ["forestalled"]

    def test_that_runs_before_the_capture_prevents_it(
        self, outbox: Outbox, bank: BankProcess, order_id: UUID
    ):
        authorized(outbox, order_id)
        cancel(outbox, order_id)
        deliver(outbox, "void_or_refund")
        confirm(outbox, order_id)

        deliver(outbox)

        assert said(outbox) == ["PaymentAuthorized", "PaymentVoided"]
        assert bank.charges(order_id) == {"authorizations": 1, "voids": 1}

    def test_recovers_a_lost_authorization_and_voids_it(
        self, outbox: Outbox, bank: BankProcess, order_id: UUID
    ):
        """Rule 17. Seen to leave it held without the first question of `void_or_refund`."""
        bank_requests.authorization(intend(order_id))  # and the worker died before it could note it
        cancel(outbox, order_id)
        deliver(outbox)
        place(outbox, order_id)

        deliver(outbox)

        assert said(outbox) == ["PaymentVoided"]
        assert bank.charges(order_id) == {"authorizations": 1, "voids": 1}
        assert moves(order_id) == ["intended", "authorized", "voiding", "voided"]

    def test_recovers_a_lost_capture_and_refunds_it(
        self, outbox: Outbox, bank: BankProcess, order_id: UUID
    ):
        authorized(outbox, order_id)
        bank_requests.capture(services.intend_capture(order_id=order_id))
        cancel(outbox, order_id)
        deliver(outbox)
        confirm(outbox, order_id)

        deliver(outbox)

        assert said(outbox) == ["PaymentAuthorized", "PaymentRefunded"]
        assert bank.charges(order_id) == {"authorizations": 1, "captures": 1, "refunds": 1}

    def test_authorizes_nothing_that_the_bank_never_got(
        self, outbox: Outbox, bank: BankProcess, order_id: UUID
    ):
        """Seen to hold the money of a cancelled order, and to void it."""
        intend(order_id, age=DAYS)
        cancel(outbox, order_id)
        deliver(outbox, twice=True)
        place(outbox, order_id)

        deliver(outbox, twice=True)

        assert bank.charges(order_id) == {}
        assert moves(order_id) == ["intended", "forestalled"]
        assert said(outbox) == []

    def test_captures_nothing_that_the_bank_never_got(
        self, outbox: Outbox, bank: BankProcess, order_id: UUID
    ):
        """Seen to charge the card for a cancelled order, and to refund it."""
        authorized(outbox, order_id)
        aged(services.intend_capture(order_id=order_id), DAYS)
        cancel(outbox, order_id)
        deliver(outbox, twice=True)
        confirm(outbox, order_id)

        deliver(outbox, twice=True)

        assert bank.charges(order_id) == {"authorizations": 1, "voids": 1}
        assert moves(order_id)[-3:] == ["capturing", "voiding", "voided"]
        assert said(outbox) == ["PaymentAuthorized", "PaymentVoided"]

    @pytest.mark.parametrize(
        ("stage", "charges", "end"),
        [
            ("authorization", {}, "forestalled"),
            ("capture", {"authorizations": 1, "voids": 1}, "voided"),
        ],
    )
    def test_may_finish_while_a_slow_worker_looks_at_the_bank(
        self,
        outbox: Outbox,
        bank: BankProcess,
        order_id: UUID,
        settings: Settings,
        monkeypatch: pytest.MonkeyPatch,
        stage: str,
        charges: dict[str, int],
        end: str,
    ):
        """The worker's key is old, and the bank has no record of the request."""
        settings.BANK_PROCESSING_SECONDS = 0.0
        if stage == "capture":
            authorized(outbox, order_id)
            aged(services.intend_capture(order_id=order_id), DAYS)
            confirm(outbox, order_id)
        else:
            intend(order_id, age=DAYS)
            place(outbox, order_id)
        find = BankGateway.find

        def find_slowly(self: BankGateway, **wanted: Any) -> object:
            found = find(self, **wanted)
            monkeypatch.setattr(BankGateway, "find", find)
            cancel(outbox, order_id)
            deliver(outbox, "void_or_refund")
            return found

        monkeypatch.setattr(BankGateway, "find", find_slowly)

        deliver(outbox)

        assert bank.charges(order_id) == charges
        assert status(order_id) == end

    def test_recovers_a_decline_and_emits_nothing(
        self, outbox: Outbox, bank: BankProcess, order_id: UUID
    ):
        """Fails without the check of `cancelled_at` in `services._emit_unless_cancelled`."""
        intend(order_id, payment_method="tok_declined")
        cancel(outbox, order_id)

        deliver(outbox)

        assert said(outbox) == []
        assert status(order_id) == "declined"
        assert bank.charges(order_id) == {"declines": 1}

    @pytest.mark.parametrize("stage", ["authorization", "capture"])
    def test_may_run_during_a_request_to_the_bank(
        self,
        outbox: Outbox,
        bank: BankProcess,
        order_id: UUID,
        monkeypatch: pytest.MonkeyPatch,
        stage: str,
    ):
        """The answer is on its way to us, and the cancellation overtakes it."""
        if stage == "capture":
            authorized(outbox, order_id)
            confirm(outbox, order_id)
        else:
            place(outbox, order_id)
        ask = getattr(bank_requests, stage)

        def ask_slowly(payment: Payment) -> object:
            answer = ask(payment)
            monkeypatch.setattr(bank_requests, stage, ask)
            cancel(outbox, order_id)
            deliver(outbox, "void_or_refund")
            return answer

        monkeypatch.setattr(bank_requests, stage, ask_slowly)
        deliver(outbox)

        way_back = {"authorization": "PaymentVoided", "capture": "PaymentRefunded"}
        assert said(outbox)[-1] == way_back[stage]
        assert "PaymentCaptured" not in said(outbox)
        assert status(order_id) in {"voided", "refunded"}

    @pytest.mark.parametrize("stage", ["intend_payment", "intend_capture"])
    def test_may_finish_before_a_slow_worker_asks_the_bank(
        self,
        outbox: Outbox,
        bank: BankProcess,
        order_id: UUID,
        monkeypatch: pytest.MonkeyPatch,
        stage: str,
    ):
        """The intent is committed, the worker stands still, the order is cancelled meanwhile."""
        if stage == "intend_capture":
            authorized(outbox, order_id)
            confirm(outbox, order_id)
        else:
            place(outbox, order_id)
        intend_now = getattr(services, stage)

        def stand_still(**wanted: object) -> Payment:
            payment = intend_now(**wanted)
            assert isinstance(payment, Payment)
            cancel(outbox, order_id)
            deliver(outbox, "void_or_refund")
            return payment

        monkeypatch.setattr(services, stage, stand_still)
        deliver(outbox)

        charges = bank.charges(order_id)
        assert charges["authorizations"] == charges.get("voids", 0) + charges.get("refunds", 0)
        assert status(order_id) in {"voided", "refunded"}

    def test_makes_a_retried_dead_authorization_harmless(
        self, outbox: Outbox, bank: BankProcess, order_id: UUID, settings: Settings
    ):
        settings.BANK_API_KEY = "revoked"
        place(outbox, order_id)
        deliver(outbox, raise_errors=False)
        settle_as_dead("authorize_payment")
        settings.BANK_API_KEY = "key-for-tests"
        cancel(outbox, order_id)
        deliver(outbox)
        retry()

        deliver(outbox)

        assert said(outbox) == ["PaymentVoided"]
        assert bank.charges(order_id) == {"authorizations": 1, "voids": 1}

    def test_is_retried_without_limit(
        self, outbox: Outbox, bank: BankProcess, order_id: UUID, settings: Settings
    ):
        """Rule 9. Seen to end as dead without `attempts=None`."""
        authorized(outbox, order_id)
        settings.BANK_URL = f"http://127.0.0.1:{port_of_nobody()}"
        cancel(outbox, order_id)
        deliver(outbox, raise_errors=False)
        set_attempts("void_or_refund", 1000)
        retry()

        deliver(outbox, raise_errors=False)

        assert owed("void_or_refund") == "pending"
        settings.BANK_URL = bank.url
        retry()
        deliver(outbox)
        assert said(outbox) == ["PaymentAuthorized", "PaymentVoided"]

    @pytest.mark.parametrize("stage", ["void", "refund"])
    def test_finds_the_result_of_an_old_key(
        self, outbox: Outbox, bank: BankProcess, order_id: UUID, stage: str
    ):
        """Rule 8. Seen to be refused by the bank without the look in `asking`."""
        (authorized if stage == "void" else captured)(outbox, order_id)
        payment = aged(services.intend_reversal(order_id=order_id), timedelta(days=3))
        bank_port = gateway.current()
        if stage == "void":
            bank_port.void(
                authorization_id=payment.authorization_id, idempotency_key=f"{order_id}-old"
            )
        else:
            payment.refunds.update(moved_at=timezone.now() - timedelta(days=3))
            bank_port.refund(
                reference=str(order_id),
                capture_id=payment.capture_id,
                amount=TOTAL,
                idempotency_key=payment.refunds.get().key,
            )
            bank.forget(payment.refunds.get().key)
        cancel(outbox, order_id)

        deliver(outbox)

        assert status(order_id) in {"voided", "refunded"}
        assert bank.charges(order_id)[f"{stage}s"] == 1


@pytest.mark.django_db(transaction=True)
class TestTheBank:
    def test_is_never_called_within_a_transaction(
        self,
        outbox: Outbox,
        bank: BankProcess,
        order_id: UUID,
        monkeypatch: pytest.MonkeyPatch,
    ):
        """Rule 7. Seen to fail with `asking.void` moved below `with receipt`."""
        send = BankGateway._send
        in_transaction: list[bool] = []

        def note_and_send(self: BankGateway, *args: Any, **kwargs: Any) -> object:
            in_transaction.append(connection.in_atomic_block)
            return send(self, *args, **kwargs)

        monkeypatch.setattr(BankGateway, "_send", note_and_send)

        captured(outbox, order_id)
        cancel(outbox, order_id)
        deliver(outbox)

        other = uuid7()
        authorized(outbox, other)
        cancel(outbox, other)
        deliver(outbox)

        assert in_transaction == [False] * 5  # authorize, capture, refund; authorize, void


def intend(
    order_id: UUID, *, age: timedelta = timedelta(), payment_method: str = "tok_success"
) -> Payment:
    payment = services.intend_payment(order_id=order_id, total=TOTAL, payment_method=payment_method)
    return aged(payment, age)


def aged(payment: Payment, by: timedelta) -> Payment:
    """Let the payment have been in its status for so long."""
    payment.moved_at = timezone.now() - by
    payment.save()
    return payment
