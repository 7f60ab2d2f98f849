from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from tests.bank import SLOW_SECONDS, BankProcess
from tests.payments.test_simulator import authorize, capture, post, refund, wanted
from tests.processes import eventually

PROCESSING_SECONDS = 3
#: A busy machine repeats a request within this time.
KEY_LIFE_SECONDS = 10
IMPATIENT = SLOW_SECONDS / 5


@pytest.fixture
def client(bank_process: BankProcess) -> Iterator[httpx.Client]:
    with bank_process.client() as client:
        yield client


@pytest.fixture
def reference() -> str:
    return uuid4().hex


def running(folder: Path, *options: str) -> Iterator[BankProcess]:
    process = BankProcess(folder, *options)
    process.start()
    yield process
    process.kill()


@pytest.fixture
def hasty_bank(tmp_path: Path) -> Iterator[BankProcess]:
    """A bank that gives up soon."""
    yield from running(tmp_path / "hasty", "--processing-seconds", str(PROCESSING_SECONDS))


@pytest.fixture
def forgetful_bank(tmp_path: Path) -> Iterator[BankProcess]:
    """A bank that forgets every key after some seconds."""
    yield from running(tmp_path / "forgetful", "--key-life-seconds", str(KEY_LIFE_SECONDS))


def ask(client: httpx.Client, reference: str, token: str) -> httpx.Response:
    """Ask to hold money, under the reference as the key."""
    body = wanted(reference, payment_method=token)
    return post(client, "/v1/authorizations", body, key=reference)


class TestABankThatFails:
    @pytest.mark.parametrize(("token", "status"), [("tok_fails_2", 500), ("tok_busy_2", 429)])
    def test_does_nothing_for_the_given_number_of_requests_then_succeeds(
        self,
        client: httpx.Client,
        bank_process: BankProcess,
        reference: str,
        token: str,
        status: int,
    ):
        answers = [ask(client, reference, token).status_code for _ in range(2)]
        charges = bank_process.charges(reference)

        assert (answers, charges) == ([status, status], {})
        assert ask(client, reference, token).status_code == 200
        assert bank_process.charges(reference) == {"authorizations": 1}

    def test_counts_each_request_by_its_own_key(self, client: httpx.Client, reference: str):
        body = wanted(reference, payment_method="tok_fails")

        answers = [post(client, "/v1/authorizations", body) for _ in range(2)]

        assert [answer.status_code for answer in answers] == [500, 500]

    def test_keeps_the_number_of_failures_after_sigkill(
        self, hasty_bank: BankProcess, reference: str
    ):
        with hasty_bank.client() as client:
            first = ask(client, reference, "tok_fails_1").status_code
        hasty_bank.kill()
        hasty_bank.start()

        with hasty_bank.client() as client:
            second = ask(client, reference, "tok_fails_1").status_code

        assert (first, second) == (500, 200)

    def test_fails_at_the_named_operation(self, client: httpx.Client, reference: str):
        held = authorize(client, reference, payment_method="tok_capture_fails")
        path, body = f"/v1/authorizations/{held}/capture", {"amount": 12800, "currency": "JPY"}

        answers = [post(client, path, body, key=reference).status_code for _ in range(2)]

        assert answers == [500, 200]

    def test_fails_to_refund_and_to_void_as_well(self, client: httpx.Client, reference: str):
        taken = capture(client, authorize(client, reference, payment_method="tok_refund_fails"))
        held = authorize(client, reference, payment_method="tok_void_fails")

        assert refund(client, taken.json()["id"], 100).status_code == 500
        assert post(client, f"/v1/authorizations/{held}/void").status_code == 500


class TestABankThatHangsUp:
    def test_has_done_nothing_if_it_hung_up_before(
        self, client: httpx.Client, bank_process: BankProcess, reference: str
    ):
        with pytest.raises(httpx.RemoteProtocolError):
            ask(client, reference, "tok_hangs_up")

        assert bank_process.charges(reference) == {}
        assert ask(client, reference, "tok_hangs_up").status_code == 200

    def test_has_done_the_work_if_it_hung_up_after_success(
        self, client: httpx.Client, bank_process: BankProcess, reference: str
    ):
        with pytest.raises(httpx.RemoteProtocolError):
            ask(client, reference, "tok_hangs_up_after_success")

        assert bank_process.charges(reference) == {"authorizations": 1}
        again = ask(client, reference, "tok_hangs_up_after_success")
        assert again.headers["Idempotent-Replayed"] == "true"
        assert bank_process.charges(reference) == {"authorizations": 1}


class TestABankThatTimesOutAfterSuccess:
    def test_has_stored_the_operation_and_answers_a_repetition_at_once(
        self, client: httpx.Client, bank_process: BankProcess, reference: str
    ):
        token = "tok_timeout_after_success_9"  # so long that only an answer at once comes before
        with bank_process.client(timeout=IMPATIENT) as impatient, pytest.raises(httpx.ReadTimeout):
            ask(impatient, reference, token)

        booked = partial(bank_process.charges, reference)
        eventually(lambda: booked() == {"authorizations": 1}, "the bank books it")
        again = ask(client, reference, token)
        assert again.status_code == 200
        assert again.elapsed.total_seconds() < 9


class TestATokenWithSeconds:
    @pytest.mark.parametrize("fault", ["slow", "timeout_after_success"])
    def test_overrides_the_usual_time(self, client: httpx.Client, reference: str, fault: str):
        answer = ask(client, reference, f"tok_{fault}_2")

        assert answer.status_code == 200
        assert answer.elapsed.total_seconds() >= 2 > SLOW_SECONDS


class TestABankThatDeclinesAtCapture:
    def test_authorizes_first_and_captures_and_holds_nothing(
        self, client: httpx.Client, bank_process: BankProcess, reference: str
    ):
        held = authorize(client, reference, payment_method="tok_declined_at_capture")

        answer = capture(client, held)

        assert answer.status_code == 402
        assert answer.json()["error"]["decline_code"] == "expired_card"
        assert answer.json()["error"]["authorization"]["id"] == held
        assert bank_process.charges(reference) == {"declines": 1}


class TestTheLongestProcessingTime:
    def test_ends_a_longer_request_without_an_effect(self, hasty_bank: BankProcess, reference: str):
        with hasty_bank.client() as client:
            stuck = ask(client, reference, "tok_stuck")
            charges = hasty_bank.charges(reference)
            again = ask(client, reference, "tok_stuck")

        assert (stuck.status_code, charges) == (504, {})
        assert stuck.elapsed.total_seconds() >= PROCESSING_SECONDS
        assert again.status_code == 200

    def test_applies_to_slow_payment_methods(self, hasty_bank: BankProcess, reference: str):
        with hasty_bank.client() as client:
            answer = ask(client, reference, "tok_slow_6")

        assert (answer.status_code, hasty_bank.charges(reference)) == (504, {})


class TestAKeyPastItsLife:
    def test_charges_again(self, forgetful_bank: BankProcess, reference: str):
        with forgetful_bank.client() as client:
            ask(client, reference, "tok_success")
            known = ask(client, reference, "tok_success")
            eventually(
                lambda: is_new(ask(client, reference, "tok_success")), "the key is forgotten"
            )

        assert known.headers["Idempotent-Replayed"] == "true"
        assert forgetful_bank.charges(reference) == {"authorizations": 2}


def is_new(answer: httpx.Response) -> bool:
    return "Idempotent-Replayed" not in answer.headers
