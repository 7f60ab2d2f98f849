from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Thread
from types import ModuleType
from typing import Any
from uuid import uuid4

import pytest
from pytest_django import Settings

from payments import gateway
from payments.gateway import (
    Authorization,
    BankGateway,
    Capture,
    Gateway,
    GatewayRefused,
    GatewayUnavailable,
    OutcomeUnknown,
    ReportRefused,
    bank_answers,
    stripe_answers,
)
from payments.gateway.stripe import StripeGateway
from payments.models import Payment, Refund
from shared.money import Money
from tests.bank import API_KEY, ROOT, SLOW_SECONDS, BankProcess
from tests.closed_port import port_of_nobody
from tests.stripe_stand_in import KEY, StripeStandIn, stand_in

TOTAL = Money(amount=12800, currency="JPY")
FORM = b"metadata[reference]"  # the last field of Stripe's form
PATIENT = 60.0  # seconds; only a failure takes as long
IMPATIENT = SLOW_SECONDS / 5


@dataclass(frozen=True)
class Adapter:
    """An adapter before a running bank that speaks its language.

    Attributes:
        waiting: make a gateway that waits so many seconds for its bank.
        charges: what the bank did under a reference, such as {"authorizations": 1}.
    """

    waiting: Callable[[float], Gateway]
    charges: Callable[[str], dict[str, int]]


@pytest.fixture(scope="module")
def stripe_server() -> Iterator[StripeStandIn]:
    with stand_in() as server:
        yield server


@pytest.fixture(params=["bank", "stripe"])
def adapter(
    request: pytest.FixtureRequest, bank_process: BankProcess, stripe_server: StripeStandIn
) -> Adapter:
    """Each adapter that keeps the contract."""
    adapters = {
        "bank": Adapter(
            waiting=lambda timeout: bank_gateway(bank_process.url, timeout=timeout),
            charges=bank_process.charges,
        ),
        "stripe": Adapter(
            waiting=lambda timeout: stripe_gateway(stripe_server.url, timeout=timeout),
            charges=stripe_server.books.charges,
        ),
    }
    return adapters[request.param]


@pytest.fixture
def bank_of(adapter: Adapter) -> Gateway:
    return adapter.waiting(PATIENT)


@pytest.fixture
def reference() -> str:
    return uuid4().hex


def bank_gateway(url: str, *, timeout: float = PATIENT, api_key: str = API_KEY) -> BankGateway:
    return BankGateway(url=url, api_key=api_key, timeout=timeout)


def stripe_gateway(url: str, *, timeout: float = PATIENT, api_key: str = KEY) -> StripeGateway:
    return StripeGateway(url=url, api_key=api_key, timeout=timeout)


def authorize(
    bank: Gateway,
    reference: str,
    *,
    payment_method: str = "tok_success",
    amount: Money = TOTAL,
    key: str = "",
) -> Authorization:
    return bank.authorize(
        reference=reference,
        amount=amount,
        payment_method=payment_method,
        idempotency_key=key or f"{reference}-authorize",
    )


def capture(bank: Gateway) -> Capture:
    return bank.capture(authorization_id="auth_1", amount=TOTAL, idempotency_key="capture")


class TestADeclineCode:
    @pytest.mark.parametrize("answer", ["authorization", "capture"])
    def test_of_any_accepted_length_fits_its_column(self, answer: str):
        declined = {
            "object": "authorization",
            "id": "a",
            "amount": 1,
            "currency": "JPY",
            "status": "declined",
            "decline_code": "x" * 200,
        }
        read = getattr(bank_answers, f"read_{answer}")

        longest = Payment._meta.get_field("declined_reason").max_length
        assert longest is not None
        assert 1 <= len(read(declined).declined_reason) <= longest


class TestAnId:
    """Of the bank. Seen to be stored by SQLite, and to fail for ever on PostgreSQL."""

    @pytest.mark.parametrize("bad", ["x" * 101, "a\0", "", 7, None], ids=repr)
    @pytest.mark.parametrize("answer", ["authorization", "capture", "void", "refund"])
    @pytest.mark.parametrize("answers", [bank_answers, stripe_answers], ids=["bank", "stripe"])
    def test_is_refused_if_its_column_cannot_hold_it(
        self, answers: ModuleType, answer: str, bad: object
    ):
        of_bank = {"id": bad, "object": answer, "authorization": "a", "capture": "c"}
        of_bank |= {"idempotency_key": "k", "decline_code": None, "status": "authorized"}
        of_stripe = {"id": bad, "latest_charge": bad, "charge": "ch_1", "amount_received": 1}
        of_stripe["status"] = {"void": "canceled"}.get(answer, "succeeded")
        facts = of_bank if answers is bank_answers else of_stripe
        read = getattr(answers, f"read_{answer}")

        with pytest.raises((ValueError, TypeError)):
            read({**facts, "amount": 1, "currency": "JPY"})

    def test_leaves_the_outcome_unknown_if_its_column_cannot_hold_it(self, reference: str):
        answer = said(200, {**authorization(decline_code=None), "id": "x" * 101, "status": "x"})

        with bank_that_says(answer) as url, pytest.raises(OutcomeUnknown):
            authorize(bank_gateway(url), reference)

    def test_of_any_accepted_length_fits_its_column(self):
        columns = [
            Payment._meta.get_field("authorization_id"),
            Payment._meta.get_field("capture_id"),
            Payment._meta.get_field("void_id"),
            Refund._meta.get_field("bank_id"),
        ]

        assert {column.max_length for column in columns} == {bank_answers.LONGEST_ID}


class TestEveryGateway:
    """The contract of the port."""

    def test_authorizes(self, bank_of: Gateway, reference: str):
        answer = authorize(bank_of, reference)

        assert answer.authorization_id
        assert answer.amount == TOTAL
        assert not answer.is_declined

    def test_answers_a_decline(self, bank_of: Gateway, reference: str):
        answer = authorize(bank_of, reference, payment_method="tok_declined")

        assert answer.is_declined
        assert answer.declined_reason == "insufficient_funds"
        assert answer.authorization_id

    def test_declines_a_payment_method_that_it_does_not_know(
        self, bank_of: Gateway, reference: str
    ):
        """A customer chooses the token, so it needs no person's attention."""
        answer = authorize(bank_of, reference, payment_method="tok_nonsense")

        assert answer.declined_reason == "unknown_payment_method"

    def test_gives_the_same_answer_under_the_same_key(self, bank_of: Gateway, reference: str):
        assert authorize(bank_of, reference) == authorize(bank_of, reference)

    def test_refuses_a_key_of_another_request(self, bank_of: Gateway, reference: str):
        authorize(bank_of, reference)

        with pytest.raises(GatewayRefused):
            authorize(bank_of, reference, amount=TOTAL + TOTAL)

    def test_captures(self, bank_of: Gateway, reference: str):
        held = authorize(bank_of, reference)

        answers = [
            bank_of.capture(
                authorization_id=held.authorization_id,
                amount=TOTAL,
                idempotency_key=f"{reference}-capture",
            )
            for _ in range(2)
        ]

        assert answers[0] == answers[1]
        assert answers[0].authorization_id == held.authorization_id
        assert answers[0].amount == TOTAL

    def test_answers_a_decline_at_capture_and_holds_nothing(self, bank_of: Gateway, reference: str):
        held = authorize(bank_of, reference, payment_method="tok_declined_at_capture")

        answer = bank_of.capture(
            authorization_id=held.authorization_id,
            amount=TOTAL,
            idempotency_key=f"{reference}-capture",
        )

        found = bank_of.find(reference=reference)
        assert (answer.is_declined, answer.declined_reason) == (True, "expired_card")
        assert (answer.authorization_id, answer.capture_id) == (held.authorization_id, "")
        assert found
        assert (found.authorization.is_declined, found.capture) == (True, None)

    def test_voids(self, bank_of: Gateway, reference: str):
        held = authorize(bank_of, reference)

        answers = [
            bank_of.void(
                authorization_id=held.authorization_id, idempotency_key=f"{reference}-void"
            )
            for _ in range(2)
        ]

        assert answers[0] == answers[1]
        assert answers[0].authorization_id == held.authorization_id

    def test_refunds_a_part(self, bank_of: Gateway, reference: str):
        held = authorize(bank_of, reference)
        taken = bank_of.capture(
            authorization_id=held.authorization_id,
            amount=TOTAL,
            idempotency_key=f"{reference}-capture",
        )
        part = Money(amount=800, currency="JPY")

        answers = [
            bank_of.refund(
                reference=reference,
                capture_id=taken.capture_id,
                amount=part,
                idempotency_key=f"{reference}-refund",
            )
            for _ in range(2)
        ]

        assert answers[0] == answers[1]
        assert (answers[0].capture_id, answers[0].amount) == (taken.capture_id, part)
        assert answers[0].key == f"{reference}-refund"

    def test_refuses_to_capture_what_is_voided(self, bank_of: Gateway, reference: str):
        held = authorize(bank_of, reference)
        bank_of.void(authorization_id=held.authorization_id, idempotency_key=f"{reference}-void")

        with pytest.raises(GatewayRefused):
            bank_of.capture(
                authorization_id=held.authorization_id,
                amount=TOTAL,
                idempotency_key=f"{reference}-capture",
            )

    def test_finds_nothing_under_an_unused_reference(self, bank_of: Gateway, reference: str):
        assert bank_of.find(reference=reference) is None

    def test_finds_what_happened_under_a_reference(self, bank_of: Gateway, reference: str):
        held = authorize(bank_of, reference)
        authorize(bank_of, reference, payment_method="tok_declined", key=f"{reference}-later")
        taken = bank_of.capture(
            authorization_id=held.authorization_id,
            amount=TOTAL,
            idempotency_key=f"{reference}-capture",
        )
        returned = bank_of.refund(
            reference=reference,
            capture_id=taken.capture_id,
            amount=TOTAL,
            idempotency_key=f"{reference}-refund",
        )

        found = bank_of.find(reference=reference)

        assert found
        assert (found.authorization, found.capture) == (held, taken)
        assert (found.refunds, found.void) == ((returned,), None)

    def test_finds_a_void(self, bank_of: Gateway, reference: str):
        held = authorize(bank_of, reference)
        void = bank_of.void(
            authorization_id=held.authorization_id, idempotency_key=f"{reference}-void"
        )

        found = bank_of.find(reference=reference)

        assert found
        assert found.void == void

    def test_finds_a_decline_where_there_is_nothing_else(self, bank_of: Gateway, reference: str):
        declined = authorize(bank_of, reference, payment_method="tok_declined")

        found = bank_of.find(reference=reference)

        assert found
        assert found.authorization == declined

    def test_does_not_know_the_outcome_after_a_time_out_and_learns_it_by_the_same_key(
        self, adapter: Adapter, reference: str
    ):
        with pytest.raises(OutcomeUnknown):
            authorize(adapter.waiting(IMPATIENT), reference, payment_method="tok_slow")

        answer = authorize(adapter.waiting(PATIENT), reference, payment_method="tok_slow")

        assert not answer.is_declined
        assert adapter.charges(reference) == {"authorizations": 1}


class TestBankGateway:
    """How its exceptions distinguish the three kinds of failure."""

    def test_is_unavailable_at_a_closed_port(self, reference: str):
        with pytest.raises(GatewayUnavailable, match="cannot be reached"):
            authorize(bank_gateway(f"http://127.0.0.1:{port_of_nobody()}"), reference)

    def test_is_unavailable_after_a_429(self, reference: str):
        answer = b"HTTP/1.1 429 Slow Down\r\nContent-Length: 2\r\n\r\n{}"

        with bank_that_says(answer) as url, pytest.raises(GatewayUnavailable):
            authorize(bank_gateway(url), reference)

    @pytest.mark.parametrize(
        "answer",
        [
            b"",
            b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{",
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
            b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n<a/>",
            b"HTTP/1.1 402 Payment Required\r\nContent-Length: 2\r\n\r\n[]",
            b"HTTP/1.1 302 BankRecord\r\nLocation: /\r\nContent-Length: 0\r\n\r\n",
            b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n",
            b"HTTP/1.1 500 Oops\r\nContent-Length: 2\r\n\r\n{}",
            b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n",
            b"SMTP 220 hello\r\n",
        ],
        ids=[
            "hangs up",
            "hangs up in mid-answer",
            "empty object",
            "no JSON",
            "no decline",
            "redirect",
            "408",
            "500",
            "503",
            "another protocol",
        ],
    )
    def test_does_not_know_the_outcome_when_the_bank(self, answer: bytes, reference: str):
        with bank_that_says(answer) as url, pytest.raises(OutcomeUnknown):
            authorize(bank_gateway(url), reference)

    @pytest.mark.parametrize("code", [None, "", 7])
    def test_does_not_know_the_outcome_of_a_decline_without_a_reason(
        self, reference: str, code: object
    ):
        """Seen to fail while such an answer was money that is held."""
        answer = bank_declines(decline_code=code)

        with bank_that_says(answer) as url, pytest.raises(OutcomeUnknown):
            authorize(bank_gateway(url), reference)
        with bank_that_says(answer) as url, pytest.raises(OutcomeUnknown):
            capture(bank_gateway(url))

    def test_refuses_a_report_of_a_decline_without_a_reason(self, reference: str):
        """Seen to fail without the look at the status."""
        books = {**authorization(decline_code=None), "void": None, "capture": None, "refunds": []}
        data = {"reference": reference, **books}
        report = {"id": "1", "type": "authorization.declined", "data": data}

        with pytest.raises(ReportRefused):
            bank_gateway("").read_report(body=json.dumps(report).encode())

    def test_does_not_know_the_outcome_when_the_bank_is_silent(self, reference: str):
        with socket.create_server(("127.0.0.1", 0)) as deaf, pytest.raises(OutcomeUnknown):
            authorize(bank_gateway(url_of(deaf), timeout=IMPATIENT), reference)

    def test_is_refused_with_a_wrong_key_and_gives_the_reason(
        self, bank_process: BankProcess, reference: str
    ):
        stranger = bank_gateway(bank_process.url, api_key="guess")

        with pytest.raises(
            GatewayRefused, match="invalid_api_key: The API key is missing or wrong"
        ) as refused:
            authorize(stranger, reference)

        assert refused.value.code == "invalid_api_key"

    def test_ignores_proxies_of_the_environment(
        self, bank_process: BankProcess, reference: str, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{port_of_nobody()}")
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.delenv("no_proxy", raising=False)

        assert not authorize(bank_gateway(bank_process.url), reference).is_declined


class TestStripeGateway:
    """What Stripe's own language adds."""

    def test_is_unavailable_at_a_closed_port(self, reference: str):
        with pytest.raises(GatewayUnavailable, match="cannot be reached"):
            authorize(stripe_gateway(f"http://127.0.0.1:{port_of_nobody()}"), reference)

    def test_is_unavailable_after_a_429(self, reference: str):
        answer = stripe_says(429, "rate_limit_error", "rate_limit")

        with bank_that_says(answer, until=FORM) as url, pytest.raises(GatewayUnavailable):
            authorize(stripe_gateway(url), reference)

    @pytest.mark.parametrize(
        "answer",
        [
            b"",
            b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{",
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
            b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n<a/>",
            b"HTTP/1.1 302 BankRecord\r\nLocation: /\r\nContent-Length: 0\r\n\r\n",
            b"HTTP/1.1 402 Payment Required\r\nContent-Length: 2\r\n\r\n[]",
            b"HTTP/1.1 500 Oops\r\nContent-Length: 2\r\n\r\n{}",
            b'HTTP/1.1 409 Busy\r\nContent-Length: 26\r\n\r\n{"error": {"type": "api"}}',
            b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n",
        ],
        ids=[
            "hangs up",
            "hangs up in mid-answer",
            "empty object",
            "no JSON",
            "redirect",
            "no decline",
            "500",
            "409",
            "503",
        ],
    )
    def test_does_not_know_the_outcome_when_stripe(self, answer: bytes, reference: str):
        with bank_that_says(answer, until=FORM) as url, pytest.raises(OutcomeUnknown):
            authorize(stripe_gateway(url), reference)

    def test_does_not_know_the_outcome_of_a_decline_that_does_not_show_its_payment(
        self, reference: str
    ):
        answer = stripe_says(402, "card_error", "card_declined")

        with bank_that_says(answer, until=FORM) as url, pytest.raises(OutcomeUnknown):
            authorize(stripe_gateway(url), reference)

    def test_does_not_know_the_outcome_of_a_decline_that_shows_a_payment_as_held(
        self, reference: str
    ):
        """Seen to fail while such an answer was money that is held."""
        held = {"id": "pi_1", "amount": 12800, "currency": "jpy", "status": "requires_capture"}
        answer = stripe_says(402, "card_error", "card_declined", payment_intent=held)

        with bank_that_says(answer, until=FORM) as url, pytest.raises(OutcomeUnknown):
            authorize(stripe_gateway(url), reference)

    def test_does_not_know_the_outcome_of_a_decline_without_a_reason(self, reference: str):
        """Seen to fail while such an answer was money that is held."""
        declined = {
            "id": "pi_1",
            "amount": 12800,
            "currency": "jpy",
            "status": "requires_payment_method",
            "last_payment_error": {"type": "card_error", "code": ""},
        }
        answer = stripe_says(402, "card_error", "card_declined", payment_intent=declined)

        with bank_that_says(answer, until=FORM) as url, pytest.raises(OutcomeUnknown):
            authorize(stripe_gateway(url), reference)

    def test_is_refused_with_a_wrong_key(self, stripe_server: StripeStandIn, reference: str):
        with pytest.raises(GatewayRefused):
            authorize(stripe_gateway(stripe_server.url, api_key="sk_guess"), reference)

    def test_is_imported_only_if_the_settings_name_it(self):
        look = (
            "import django, sys; django.setup(); from payments import gateway; gateway.current();"
            "print('stripe' in sys.modules)"
        )
        for name, imported in (("bank", "False"), ("stripe", "True")):
            environment = {
                **os.environ,
                "DJANGO_SETTINGS_MODULE": "shop.settings",
                "GATEWAY": name,
                "STRIPE_API_KEY": KEY,
            }
            printed = subprocess.run(
                [sys.executable, "-c", look],
                cwd=ROOT,
                env=environment,
                capture_output=True,
                text=True,
                timeout=4 * PATIENT,
                check=True,
            )
            assert printed.stdout.strip() == imported


class TestCurrent:
    def test_is_the_gateway_of_the_settings(
        self, bank: BankProcess, settings: Settings, reference: str
    ):
        assert not authorize(gateway.current(), reference).is_declined

        settings.BANK_TIMEOUT_SECONDS = IMPATIENT
        with pytest.raises(OutcomeUnknown):
            authorize(gateway.current(), uuid4().hex, payment_method="tok_slow")


def url_of(server: socket.socket) -> str:
    return f"http://127.0.0.1:{server.getsockname()[1]}"


def said(status: int, answer: dict[str, Any]) -> bytes:
    body = json.dumps(answer).encode()
    return b"HTTP/1.1 %d No\r\nContent-Length: %d\r\n\r\n%b" % (status, len(body), body)


def stripe_says(status: int, type_: str, code: str, **more: Any) -> bytes:
    return said(status, {"error": {"type": type_, "code": code, "message": "No.", **more}})


def authorization(*, decline_code: object) -> dict[str, Any]:
    return {
        "object": "authorization",
        "id": "auth_1",
        **TOTAL.model_dump(),
        "status": "declined",
        "decline_code": decline_code,
    }


def bank_declines(*, decline_code: object) -> bytes:
    shown = authorization(decline_code=decline_code)
    return said(402, {"error": {"code": "card_declined", "authorization": shown}})


@contextmanager
def bank_that_says(answer: bytes, *, until: bytes = b"}") -> Iterator[str]:
    """A server that takes one request with this end, answers these bytes, and hangs up."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = Thread(target=_answer_once, args=(server, answer, until))
        thread.start()
        yield url_of(server)
        thread.join(timeout=PATIENT)


def _answer_once(server: socket.socket, answer: bytes, until: bytes) -> None:
    server.settimeout(PATIENT)
    connection, _ = server.accept()
    with connection:
        request = b""
        while until not in request.partition(b"\r\n\r\n")[2]:  # in the body
            request += connection.recv(65536)
        connection.sendall(answer)
