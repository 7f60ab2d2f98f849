from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest
from django.test import Client
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st
from pytest_django import Settings
from pytest_django.live_server_helper import LiveServer
from uuid_utils.compat import uuid7

from outbox.models import Event
from outbox.testing import Outbox
from payments import gateway, services
from payments.gateway import OutcomeUnknown, ReportRefused
from payments.gateway.signatures import WINDOW_SECONDS, sign, verify
from payments.models import BankReport, Payment, Refund
from shared.money import Money
from tests.bank import API_KEY, WEBHOOK_SECRET, BankProcess
from tests.closed_port import HOST, port_of_nobody
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
from tests.processes import CEILING, eventually

URL = "/api/payments/webhooks/bank/"
SOME_ORDER = UUID(int=1)
PART = Money(amount=800, currency="JPY")
NOW = 1_800_000_000
SECRET = st.text(st.characters(codec="utf-8", categories=("L", "N", "P")), min_size=1)


def header(body: bytes, secret: str, timestamp: int = NOW) -> str:
    return f"t={timestamp},v1={sign(body, secret, timestamp).decode()}"


class TestASignature:
    @given(body=st.binary(), secrets=st.lists(SECRET, min_size=1, max_size=3), data=st.data())
    def test_of_any_of_our_secrets_is_accepted(
        self, body: bytes, secrets: list[str], data: st.DataObject
    ):
        secret = data.draw(st.sampled_from(secrets))

        verify(body, header(body, secret), secrets=secrets, now=NOW)

    @given(body=st.binary(), other=st.binary(), secret=SECRET)
    def test_covers_every_byte_of_the_body(self, body: bytes, other: bytes, secret: str):
        signed = header(body, secret)

        assert accepted(other, signed, [secret]) == (other == body)

    @given(body=st.binary(), secret=SECRET, other=SECRET)
    def test_of_another_secret_is_refused(self, body: bytes, secret: str, other: str):
        assert accepted(body, header(body, other), [secret]) == (other == secret)

    @given(body=st.binary(), text=st.text() | st.from_regex(r"t=\d+,v1=.*"))
    def test_that_is_malformed_is_refused(self, body: bytes, text: str):
        assert not accepted(body, text, ["secret"])

    @given(age=st.integers(-2 * WINDOW_SECONDS, 2 * WINDOW_SECONDS))
    def test_is_valid_for_five_minutes(self, age: int):
        signed = header(b"{}", "secret", NOW - age)

        assert accepted(b"{}", signed, ["secret"]) == (abs(age) <= WINDOW_SECONDS)

    @given(moved=st.integers(1, WINDOW_SECONDS))
    def test_covers_its_time(self, moved: int):
        signed = header(b"{}", "secret").replace(f"t={NOW}", f"t={NOW - moved}")

        assert not accepted(b"{}", signed, ["secret"])

    def test_may_be_one_of_several(self):
        signed = f"t={NOW},v1=00,v1={sign(b'{}', 'secret', NOW).decode()},v0=1"

        assert accepted(b"{}", signed, ["secret"])

    @pytest.mark.parametrize("secrets", [[], [""]], ids=str)
    def test_is_never_valid_without_a_secret(self, secrets: list[str]):
        assert not accepted(b"{}", header(b"{}", ""), secrets)


@pytest.mark.django_db(transaction=True)
class TestAWebhook:
    @pytest.fixture(autouse=True)
    def secret(self, settings: Settings) -> None:
        settings.BANK_WEBHOOK_SECRETS = [WEBHOOK_SECRET]

    def test_is_stored_and_emitted(self, client: Client, outbox: Outbox):
        order_id = uuid7()
        body = report("evt_1", order_id)

        answer = send(client, body)

        assert (answer.status_code, answer.content) == (204, b"")
        stored = BankReport.objects.get()
        assert (stored.report_id, stored.kind) == ("evt_1", "authorize.succeeded")
        assert (stored.reference, stored.body) == (str(order_id), body.decode())
        emitted_event = outbox.emitted("payments.BankReported")
        assert (emitted_event.order_id, emitted_event.report_id) == (order_id, "evt_1")

    def test_has_the_correlation_id_of_the_request_that_it_answers(
        self, client: Client, outbox: Outbox, bank: BankProcess, settings: Settings
    ):
        """Seen to begin a chain of its own, which the story of a click did not show."""
        order_id, refund_id, other_id = uuid7(), uuid7(), uuid7()
        placed = place(outbox, order_id)
        first = without_answer(outbox, settings)
        send(client, report("evt_1", order_id))
        assert latest_report().correlation_id == placed.correlation_id
        first()
        confirmed = confirm(outbox, order_id)
        second = without_answer(outbox, settings)
        send(client, report("evt_2", order_id, captured=TOTAL))
        assert latest_report().correlation_id == confirmed.correlation_id
        second()
        asked = ask_to_refund(outbox, order_id, refund_id)
        without_answer(outbox, settings)
        asked_again = ask_to_refund(outbox, order_id, other_id)
        without_answer(outbox, settings)

        send(client, report("evt_3", order_id, captured=TOTAL, refunded=[refund_id]))
        send(client, report("evt_4", order_id, captured=TOTAL, refunded=[refund_id, other_id]))
        send(client, report("evt_5", order_id, captured=TOTAL, refunded=[other_id, refund_id]))
        send(client, report("evt_6", order_id))

        reports = Event.objects.filter(name="payments.BankReported").order_by("seq")
        wanted = [asked, asked_again, asked, placed]
        assert [one.correlation_id for one in reports][2:] == [one.correlation_id for one in wanted]

    def test_of_a_void_follows_from_the_cancellation(
        self, client: Client, outbox: Outbox, bank: BankProcess, settings: Settings
    ):
        order_id = uuid7()
        authorized(outbox, order_id)
        cancelled = cancel(outbox, order_id)
        without_answer(outbox, settings)

        send(client, report("evt_1", order_id, voided=True))

        assert latest_report().correlation_id == cancelled.correlation_id

    @pytest.mark.parametrize("first", ["void_or_refund", "capture_payment"])
    def test_of_a_void_in_place_of_a_lost_capture_follows_from_the_cancellation(
        self,
        client: Client,
        outbox: Outbox,
        bank: BankProcess,
        settings: Settings,
        first: str,
    ):
        """Seen to begin a chain of its own, whichever handler looked the capture up."""
        settings.BANK_PROCESSING_SECONDS = 0.0
        order_id = uuid7()
        authorized(outbox, order_id)
        services.intend_capture(order_id=order_id)
        confirm(outbox, order_id)
        cancelled = cancel(outbox, order_id)
        without_answer(outbox, settings)
        Payment.objects.update(moved_at=timezone.now() - timedelta(days=3))
        retry()
        deliver(outbox, first)
        retry()
        deliver(outbox)
        assert status(order_id) == "voided"

        send(client, report("evt_1", order_id, voided=True))

        assert latest_report().correlation_id == cancelled.correlation_id

    def test_about_an_order_without_a_request_begins_a_chain(self, client: Client, outbox: Outbox):
        answer = send(client, report("evt_1"))

        assert str(Event.objects.get().correlation_id) == answer["X-Correlation-ID"]

    def test_that_arrives_twice_is_emitted_once(self, client: Client, outbox: Outbox):
        body = report("evt_1")

        answers = [send(client, body).status_code for _ in range(2)]

        assert answers == [204, 204]
        assert BankReport.objects.count() == len(outbox.all_emitted()) == 1

    def test_that_arrives_concurrently_is_emitted_once(
        self, live_server: LiveServer, outbox: Outbox
    ):
        body, url = report("evt_1"), live_server.url + URL
        headers = {"Bank-Signature": header(body, WEBHOOK_SECRET, int(time.time()))}

        with ThreadPoolExecutor(6) as pool:
            posted = pool.map(
                lambda _: httpx.post(
                    url, content=body, headers=headers, trust_env=False, timeout=CEILING
                ),
                range(6),
            )
            answers = [answer.status_code for answer in posted]

        assert answers == [204] * 6
        assert BankReport.objects.count() == len(outbox.all_emitted()) == 1

    @pytest.mark.parametrize(
        "signature",
        [
            lambda body: "",
            lambda body: header(body, "guess", int(time.time())),
            lambda body: header(body + b" ", WEBHOOK_SECRET, int(time.time())),
            lambda body: header(body, WEBHOOK_SECRET, int(time.time()) - WINDOW_SECONDS - 5),
        ],
        ids=["unsigned", "another's", "of another body", "old"],
    )
    def test_without_a_recent_signature_is_refused_and_not_stored(
        self, client: Client, outbox: Outbox, signature: Callable[[bytes], str]
    ):
        body = report("evt_1")

        answer = send(client, body, signature=signature(body))

        assert answer.status_code == 400
        assert BankReport.objects.count() == len(outbox.all_emitted()) == 0

    def test_is_refused_without_a_secret(self, client: Client, settings: Settings):
        settings.BANK_WEBHOOK_SECRETS = []

        assert send(client, report("evt_1")).status_code == 400

    def test_is_accepted_under_the_old_and_the_new_secret(self, client: Client, settings: Settings):
        settings.BANK_WEBHOOK_SECRETS = ["new", WEBHOOK_SECRET]
        new = header(report("evt_2"), "new", int(time.time()))

        answers = [send(client, report("evt_1")), send(client, report("evt_2"), signature=new)]

        assert [answer.status_code for answer in answers] == [204, 204]

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"[]",
            b"{}",
            b"\xff",
            "{}".encode("utf-16"),
            b"[" * 60_000,
            b'{"id": "\\u0000", "type": "x", "data": {"reference": "y"}}',
            b'{"id": "evt", "type": "x", "data": {"reference": "y"}}',
        ],
        ids=["empty", "list", "object", "no UTF-8", "UTF-16", "deep", "NUL", "no books"],
    )
    def test_that_is_signed_but_invalid_is_refused(self, client: Client, body: bytes):
        assert send(client, body).status_code == 400
        assert BankReport.objects.count() == 0

    def test_about_an_unknown_reference_is_stored_only(self, client: Client, outbox: Outbox):
        assert send(client, report("evt_1", "rent")).status_code == 204

        assert (BankReport.objects.count(), outbox.all_emitted()) == (1, [])

    def test_about_an_order_without_a_payment_changes_nothing(self, client: Client, outbox: Outbox):
        send(client, report("evt_1"))

        deliver(outbox, twice=True)

        assert [type(event).__name__ for event in outbox.all_emitted()] == ["BankReported"]
        assert BankReport.objects.get().processed_at

    def test_of_another_amount_changes_nothing(
        self, client: Client, outbox: Outbox, bank: BankProcess
    ):
        """Seen to be emitted as the whole amount: somebody had captured a part at the bank."""
        order_id = uuid7()
        place(outbox, order_id)
        deliver(outbox)
        services.intend_capture(order_id=order_id)
        send(client, report("evt_1", order_id, captured=Money(amount=1, currency="JPY")))

        with pytest.raises(services.OtherAmount):
            deliver(outbox, "record_bank_report")

        assert status(order_id) == "capturing"
        assert emitted_names(outbox, order_id) == ["PaymentAuthorized"]

    def test_of_another_captured_amount_is_recorded_if_the_order_is_cancelled(
        self, client: Client, outbox: Outbox, bank: BankProcess, settings: Settings
    ):
        """Failed at each attempt: the payment stayed in capturing for good."""
        order_id = uuid7()
        authorized(outbox, order_id)
        confirm(outbox, order_id)
        cancel(outbox, order_id)
        services.intend_capture(order_id=order_id)
        without_answer(outbox, settings)

        send(client, report("evt_1", order_id, captured=PART))
        deliver(outbox, "record_bank_report")

        payment = services.intend_reversal(order_id=order_id)
        assert payment.status == "refunding"
        assert payment.refunds.get().total == PART

    def test_that_is_outdated_changes_nothing(
        self, client: Client, outbox: Outbox, bank: BankProcess
    ):
        order_id = uuid7()
        place(outbox, order_id)
        confirm(outbox, order_id)
        deliver(outbox, "authorize_payment")
        deliver(outbox, "capture_payment")
        send(client, report("evt_1", order_id))

        deliver(outbox)

        assert status(order_id) == "captured"
        assert emitted_names(outbox, order_id) == ["PaymentAuthorized", "PaymentCaptured"]


OPTIONS = {
    "before the answer": ["--webhook-first"],
    "after the answer": [],
    "twice": ["--webhook-times", "2"],
    "twice and before the answer": ["--webhook-first", "--webhook-times", "2"],
    "late": ["--webhook-delay-seconds", "0.5"],
}


@pytest.mark.django_db(transaction=True)
class TestWebhooksOfTheSimulator:
    @pytest.fixture(params=OPTIONS, ids=lambda when: when.replace(" ", "_"))
    def telling_bank(
        self,
        request: pytest.FixtureRequest,
        live_server: LiveServer,
        settings: Settings,
        tmp_path: Path,
    ) -> Iterator[BankProcess]:
        """A bank that reports each change; the parameter has delay and repetitions."""
        options = ["--webhook-url", live_server.url + URL, *OPTIONS[request.param]]
        process = BankProcess(tmp_path / "bank", *options)
        process.start()
        settings.BANK_URL, settings.BANK_API_KEY = process.url, API_KEY
        settings.BANK_WEBHOOK_SECRETS = [WEBHOOK_SECRET]
        yield process
        # A report on its way would be one of the next test's.
        try:
            eventually(lambda: process.notices_owed == 0, "all webhooks are accepted")
        finally:
            process.kill()

    def test_and_answers_have_one_effect(self, telling_bank: BankProcess, outbox: Outbox):
        order_id = uuid7()
        place(outbox, order_id)
        deliver(outbox, "authorize_payment")
        confirm(outbox, order_id)
        deliver(outbox, "capture_payment")
        wait_for_reports(2)

        deliver(outbox, twice=True)

        eventually(lambda: telling_bank.notices_owed == 0, "all webhooks are accepted")
        assert status(order_id) == "captured"
        assert emitted_names(outbox, order_id) == ["PaymentAuthorized", "PaymentCaptured"]
        assert telling_bank.charges(order_id) == {"authorizations": 1, "captures": 1}

    def test_replace_lost_answers(self, telling_bank: BankProcess, outbox: Outbox):
        """Each answer is lost, and the handler comes to ask again after the webhook."""
        order_id = uuid7()
        place(outbox, order_id, payment_method="tok_hangs_up_after_success")
        lose_the_answer(outbox, "authorize_payment")
        wait_for_reports(1)

        deliver(outbox, "record_bank_report")

        assert (status(order_id), emitted_names(outbox, order_id)) == (
            "authorized",
            ["PaymentAuthorized"],
        )
        retry()
        deliver(outbox)
        assert emitted_names(outbox, order_id) == ["PaymentAuthorized"]
        assert telling_bank.charges(order_id) == {"authorizations": 1}

    @pytest.mark.parametrize(
        ("token", "end", "event", "charges"),
        [
            (
                "tok_capture_hangs_up_after_success",
                "captured",
                "PaymentCaptured",
                {"authorizations": 1, "captures": 1},
            ),
            (
                "tok_void_hangs_up_after_success",
                "voided",
                "PaymentVoided",
                {"authorizations": 1, "voids": 1},
            ),
        ],
    )
    def test_replace_lost_answers_to_captures_and_voids(
        self,
        telling_bank: BankProcess,
        outbox: Outbox,
        token: str,
        end: str,
        event: str,
        charges: dict[str, int],
    ):
        order_id = uuid7()
        place(outbox, order_id, payment_method=token)
        deliver(outbox, "authorize_payment")
        (confirm if end == "captured" else cancel)(outbox, order_id)
        lose_the_answer(outbox, "capture_payment" if end == "captured" else "void_or_refund")
        wait_for_reports(2)

        deliver(outbox, "record_bank_report")

        assert (status(order_id), emitted_names(outbox, order_id)) == (
            end,
            ["PaymentAuthorized", event],
        )
        retry()
        deliver(outbox)
        assert emitted_names(outbox, order_id) == ["PaymentAuthorized", event]
        assert telling_bank.charges(order_id) == charges

    def test_replace_lost_answers_to_each_refund(self, telling_bank: BankProcess, outbox: Outbox):
        """Two of one amount. Seen to fail with refunds that are identified by their amount."""
        order_id, asked = uuid7(), [uuid7(), uuid7()]
        place(outbox, order_id, payment_method="tok_refund_hangs_up_after_success")
        deliver(outbox)
        confirm(outbox, order_id)
        deliver(outbox)
        for refund_id in asked:
            services.intend_refund(order_id=order_id, refund_id=refund_id, amount=PART)
        ask_to_refund(outbox, order_id, asked[1])
        lose_the_answer(outbox, "refund_payment")
        wait_for_reports(3)

        deliver(outbox, "record_bank_report")

        assert [is_refunded(refund_id) for refund_id in asked] == [False, True]
        retry()
        ask_to_refund(outbox, order_id, asked[0])
        lose_the_answer(outbox, "refund_payment")
        retry()
        wait_for_reports(4)
        deliver(outbox)
        assert [is_refunded(refund_id) for refund_id in asked] == [True, True]
        assert emitted_names(outbox, order_id)[2:] == ["PaymentRefunded"] * 2
        assert telling_bank.charges(order_id)["refunds"] == 2

    def test_and_the_answer_to_a_refund_have_one_effect(
        self, telling_bank: BankProcess, outbox: Outbox
    ):
        """That of a cancellation."""
        order_id = uuid7()
        captured(outbox, order_id)
        cancel(outbox, order_id)
        deliver(outbox, "void_or_refund")
        wait_for_reports(3)

        deliver(outbox, twice=True)

        assert status(order_id) == "refunded"
        assert emitted_names(outbox, order_id)[2:] == ["PaymentRefunded"]
        assert telling_bank.charges(order_id)["refunds"] == 1

    def test_are_sent_again_until_they_are_accepted(
        self, telling_bank: BankProcess, outbox: Outbox, settings: Settings
    ):
        settings.BANK_WEBHOOK_SECRETS = ["not this one"]
        order_id = uuid7()
        place(outbox, order_id)
        deliver(outbox)
        eventually(lambda: "was not accepted" in telling_bank.log, "a webhook is refused")

        settings.BANK_WEBHOOK_SECRETS = [WEBHOOK_SECRET]

        wait_for_reports(1)


class TestAReportOfADecline:
    @pytest.mark.django_db(transaction=True)
    def test_at_capture_is_emitted_once(
        self, client: Client, outbox: Outbox, bank: BankProcess, settings: Settings
    ):
        """The bank's books after a decline at capture, sent before we come to read its answer."""
        settings.BANK_WEBHOOK_SECRETS = [WEBHOOK_SECRET]
        order_id = uuid7()
        place(outbox, order_id, payment_method="tok_declined_at_capture")
        deliver(outbox)
        payment = services.intend_capture(order_id=order_id)
        gateway.current().capture(
            authorization_id=payment.authorization_id,
            amount=TOTAL,
            idempotency_key=payment.capture_key,
        )
        with bank.client() as books:
            query = {"reference": str(order_id)}
            (data,) = books.get("/v1/authorizations", params=query).json()["data"]

        send(client, json.dumps({"id": "evt", "type": "capture.declined", "data": data}).encode())
        deliver(outbox, "record_bank_report")
        confirm(outbox, order_id)
        deliver(outbox)

        assert status(order_id) == "declined"
        assert emitted_names(outbox, order_id) == ["PaymentAuthorized", "PaymentDeclined"]


def accepted(body: bytes, signed: str, secrets: list[str]) -> bool:
    try:
        verify(body, signed, secrets=secrets, now=NOW)
    except ReportRefused:
        return False
    return True


def latest_report() -> Event:
    return Event.objects.filter(name="payments.BankReported").latest("seq")


def without_answer(outbox: Outbox, settings: Settings) -> Callable[[], None]:
    """Ask the bank in vain. The returned function asks again, and gets the answer."""
    reachable, settings.BANK_URL = settings.BANK_URL, f"http://{HOST}:{port_of_nobody()}"
    deliver(outbox, raise_errors=False)
    settings.BANK_URL = reachable

    def again() -> None:
        retry()
        deliver(outbox)

    return again


def report(
    report_id: str,
    reference: UUID | str = SOME_ORDER,
    *,
    captured: Money | None = None,
    refunded: Sequence[UUID] = (),
    voided: bool = False,
) -> bytes:
    """What the bank says when it holds money, has captured, refunded or released some."""
    authorization = {"id": "auth_1", "reference": str(reference), **TOTAL.model_dump()}
    nothing_followed: dict[str, Any] = {"void": None, "capture": None, "refunds": []}
    data = {**authorization, "status": "authorized", "decline_code": None, **nothing_followed}
    if captured:
        known = {"object": "capture", "id": "cap_1", "authorization": "auth_1"}
        data["capture"] = {**known, **captured.model_dump()}
    data["refunds"] = [
        {"id": f"ref_{one.hex}", "capture": "cap_1", "idempotency_key": f"{one}-refund"}
        | PART.model_dump()
        for one in refunded
    ]
    if voided:
        data["void"] = {"object": "void", "id": "void_1", "authorization": "auth_1"}
    return json.dumps({"id": report_id, "type": "authorize.succeeded", "data": data}).encode()


def send(client: Client, body: bytes, *, signature: str | None = None) -> Any:
    signed = header(body, WEBHOOK_SECRET, int(time.time())) if signature is None else signature
    return client.post(
        URL, body, content_type="application/json", headers={"Bank-Signature": signed}
    )


def emitted_names(outbox: Outbox, order_id: UUID) -> list[str]:
    """Names of the events that payments emitted about an order, in order."""
    return [name for name in said_of(outbox, order_id) if name != "BankReported"]


def ask_to_refund(outbox: Outbox, order_id: UUID, refund_id: UUID) -> Event:
    fields: dict[str, Any] = {"refund_id": refund_id, "amount": PART, "returned": []}
    return outbox.given("orders.RefundRequested", order_id=order_id, **fields)


def is_refunded(refund_id: UUID) -> bool:
    return Refund.objects.get(pk=refund_id).status == "refunded"


def lose_the_answer(outbox: Outbox, handler: str) -> None:
    with pytest.raises(OutcomeUnknown):
        deliver(outbox, handler)


def wait_for_reports(count: int) -> None:
    eventually(lambda: BankReport.objects.count() >= count, f"{count} reports of the bank")
