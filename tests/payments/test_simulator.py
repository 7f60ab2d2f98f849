from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.bank import API_KEY, ROOT, BankProcess, bank_command
from tests.processes import CEILING


@pytest.fixture
def client(bank_process: BankProcess) -> Iterator[httpx.Client]:
    with bank_process.client() as client:
        yield client


@pytest.fixture
def reference() -> str:
    return uuid4().hex


def wanted(reference: str, **changes: Any) -> dict[str, Any]:
    body = {"reference": reference, "amount": 12800, "currency": "JPY"}
    return {**body, "payment_method": "tok_success", **changes}


def post(
    client: httpx.Client, path: str, body: object = None, *, key: str | None = None
) -> httpx.Response:
    """Post under the key, or under a new one."""
    headers = {"Idempotency-Key": key or uuid4().hex}
    return client.post(path, content=json.dumps(body or {}), headers=headers)


def authorize(client: httpx.Client, reference: str, **changes: Any) -> str:
    answer = post(client, "/v1/authorizations", wanted(reference, **changes))
    assert answer.status_code == 200, answer.text
    return str(answer.json()["id"])


def capture(client: httpx.Client, authorization_id: str, amount: int = 12800) -> httpx.Response:
    body = {"amount": amount, "currency": "JPY"}
    return post(client, f"/v1/authorizations/{authorization_id}/capture", body)


def refund(client: httpx.Client, capture_id: str, amount: int) -> httpx.Response:
    body = {"amount": amount, "currency": "JPY"}
    return post(client, f"/v1/captures/{capture_id}/refunds", body)


class TestAuthorization:
    def test_holds_the_money(self, client: httpx.Client, bank_process: BankProcess, reference: str):
        answer = post(client, "/v1/authorizations", wanted(reference))

        assert answer.status_code == 200
        assert answer.json()["status"] == "authorized"
        assert answer.json()["amount"] == 12800
        assert bank_process.charges(reference) == {"authorizations": 1}

    @pytest.mark.parametrize(
        ("token", "reason"),
        [("tok_declined", "insufficient_funds"), ("tok_nonsense", "unknown_payment_method")],
    )
    def test_is_declined_with_a_reason(
        self,
        client: httpx.Client,
        bank_process: BankProcess,
        reference: str,
        token: str,
        reason: str,
    ):
        answer = post(client, "/v1/authorizations", wanted(reference, payment_method=token))

        assert answer.status_code == 402
        assert answer.json()["error"]["decline_code"] == reason
        assert answer.json()["error"]["authorization"]["status"] == "declined"
        assert bank_process.charges(reference) == {"declines": 1}

    def test_of_a_slow_method_does_not_delay_other_requests(
        self, bank_process: BankProcess, client: httpx.Client, reference: str
    ):
        with ThreadPoolExecutor(1) as pool, bank_process.client() as other:
            slow = pool.submit(
                post, other, "/v1/authorizations", wanted(reference, payment_method="tok_slow_5")
            )
            quick = post(client, "/v1/authorizations", wanted(reference))

            assert not slow.done()
            assert quick.status_code == 200
            assert slow.result().status_code == 200
            assert slow.result().elapsed.total_seconds() >= 5

    @pytest.mark.parametrize(
        "change",
        [
            {"amount": 0},
            {"amount": -1},
            {"amount": 12.5},
            {"amount": True},
            {"amount": "12800"},
            {"amount": 10**15},
            {"currency": "yen"},
            {"currency": None},
            {"reference": ""},
            {"reference": "\x00"},
            {"reference": "\ud800"},
            {"payment_method": 5},
        ],
        ids=str,
    )
    def test_refuses_invalid_fields_and_stores_nothing(
        self,
        client: httpx.Client,
        bank_process: BankProcess,
        reference: str,
        change: dict[str, Any],
    ):
        answer = post(client, "/v1/authorizations", {**wanted(reference), **change})

        assert answer.status_code == 400
        assert answer.json()["error"]["code"] == "invalid_field"
        assert bank_process.charges(reference) == {}


class TestTheFile:
    def test_is_readable_by_its_owner_only(
        self, client: httpx.Client, bank_process: BankProcess, reference: str
    ):
        """Seen to fail as SQLite creates it."""
        files = list(bank_process.folder.glob("*.sqlite3*"))

        assert files
        assert {file.stat().st_mode & 0o777 for file in files} == {0o600}


class TestRequest:
    def test_needs_the_api_key(self, bank_process: BankProcess, reference: str):
        with bank_process.client(headers={"Authorization": "Bearer guess"}) as stranger:
            answer = post(stranger, "/v1/authorizations", wanted(reference))

        assert answer.status_code == 401
        assert bank_process.charges(reference) == {}

    def test_needs_an_idempotency_key(
        self, client: httpx.Client, bank_process: BankProcess, reference: str
    ):
        answer = client.post("/v1/authorizations", json=wanted(reference))

        assert answer.status_code == 400
        assert answer.json()["error"]["code"] == "idempotency_key_missing"
        assert bank_process.charges(reference) == {}

    @pytest.mark.parametrize(
        ("body", "status"),
        [
            (b"{", 400),
            (b"[1]", 400),
            (b'{"amount": "\xff"}', 400),
            (b"[" * 60_000, 400),
            (b"x" * 100_000, 413),
        ],
        ids=["broken", "no object", "no UTF-8", "too deep", "too large"],
    )
    def test_of_bad_json_is_refused(self, client: httpx.Client, body: bytes, status: int):
        headers = {"Idempotency-Key": uuid4().hex}

        answer = client.post("/v1/authorizations", content=body, headers=headers)

        assert answer.status_code == status
        assert answer.json()["error"]["message"]

    @pytest.mark.parametrize("path", ["/", "/v1/authorizations/x/steal", "/v1/nothing"])
    def test_of_an_unknown_path_is_refused(self, client: httpx.Client, path: str):
        assert client.get(path).status_code == 404
        assert post(client, path).status_code == 404

    def test_writes_a_log_line(
        self, client: httpx.Client, bank_process: BankProcess, reference: str
    ):
        post(client, "/v1/authorizations", wanted(reference), key=f"key-{reference}")

        lines = [line for line in bank_process.log.splitlines() if f"key-{reference}" in line]
        assert len(lines) == 1
        assert "POST /v1/authorizations 200" in lines[0]
        assert "tok_" not in bank_process.log
        assert API_KEY not in bank_process.log


class TestIdempotencyKey:
    def test_repeats_the_answer_and_charges_once(
        self, client: httpx.Client, bank_process: BankProcess, reference: str
    ):
        first = post(client, "/v1/authorizations", wanted(reference), key=reference)
        again = post(client, "/v1/authorizations", wanted(reference), key=reference)

        assert first.json() == again.json()
        assert "Idempotent-Replayed" not in first.headers
        assert again.headers["Idempotent-Replayed"] == "true"
        assert bank_process.charges(reference) == {"authorizations": 1}

    def test_repeats_a_decline(
        self, client: httpx.Client, bank_process: BankProcess, reference: str
    ):
        body = wanted(reference, payment_method="tok_declined")

        answers = [post(client, "/v1/authorizations", body, key=reference) for _ in range(2)]

        assert [answer.status_code for answer in answers] == [402, 402]
        assert answers[0].json() == answers[1].json()
        assert bank_process.charges(reference) == {"declines": 1}

    def test_belongs_to_one_body_and_one_path(
        self, client: httpx.Client, bank_process: BankProcess, reference: str
    ):
        body = wanted(reference)
        first = post(client, "/v1/authorizations", body, key=reference)

        other_body = post(client, "/v1/authorizations", {**body, "amount": 1}, key=reference)
        other_path = post(client, f"/v1/authorizations/{first.json()['id']}/void", key=reference)

        for answer in (other_body, other_path):
            assert answer.status_code == 422
            assert answer.json()["error"]["code"] == "idempotency_key_reused"
        assert bank_process.charges(reference) == {"authorizations": 1}

    def test_is_not_used_up_by_a_refused_request(self, client: httpx.Client, reference: str):
        refused = post(client, "/v1/authorizations", wanted(reference, amount=0), key=reference)
        corrected = post(client, "/v1/authorizations", wanted(reference), key=reference)

        assert refused.status_code == 400
        assert corrected.status_code == 200

    @pytest.mark.parametrize("token", ["tok_success", "tok_slow"])
    def test_charges_once_for_concurrent_requests(
        self, client: httpx.Client, bank_process: BankProcess, reference: str, token: str
    ):
        """Seen to fail (500, the books are locked) with BEGIN for BEGIN IMMEDIATE in storage.py."""
        body = wanted(reference, payment_method=token)

        with ThreadPoolExecutor(12) as pool:
            answers = list(
                pool.map(
                    lambda _: post(client, "/v1/authorizations", body, key=reference), range(12)
                )
            )

        assert {answer.status_code for answer in answers} == {200}
        assert len({answer.json()["id"] for answer in answers}) == 1
        assert bank_process.charges(reference) == {"authorizations": 1}

    def test_is_needed_to_charge_once(
        self, client: httpx.Client, bank_process: BankProcess, reference: str
    ):
        """Two keys charge twice: the other tests do not pass by luck."""
        for _ in range(2):
            authorize(client, reference)

        assert bank_process.charges(reference) == {"authorizations": 2}


class TestMoney:
    def test_that_is_held_can_be_captured_once(
        self, client: httpx.Client, bank_process: BankProcess, reference: str
    ):
        authorization_id = authorize(client, reference)

        first = capture(client, authorization_id)
        second = capture(client, authorization_id)
        void = post(client, f"/v1/authorizations/{authorization_id}/void")

        assert first.status_code == 200
        assert (second.status_code, void.status_code) == (409, 409)
        assert second.json()["error"]["code"] == "unexpected_state"
        assert bank_process.charges(reference) == {"authorizations": 1, "captures": 1}

    def test_that_is_held_can_be_voided_once(
        self, client: httpx.Client, bank_process: BankProcess, reference: str
    ):
        authorization_id = authorize(client, reference)

        first = post(client, f"/v1/authorizations/{authorization_id}/void")
        second = post(client, f"/v1/authorizations/{authorization_id}/void")

        assert (first.status_code, second.status_code) == (200, 409)
        assert capture(client, authorization_id).status_code == 409
        assert bank_process.charges(reference) == {"authorizations": 1, "voids": 1}

    def test_that_is_captured_does_not_exceed_the_authorization(
        self, client: httpx.Client, reference: str
    ):
        authorization_id = authorize(client, reference)

        too_much = capture(client, authorization_id, amount=12801)
        a_part = capture(client, authorization_id, amount=800)

        assert too_much.json()["error"]["code"] == "amount_too_large"
        assert a_part.json()["amount"] == 800

    def test_that_is_refunded_does_not_exceed_the_capture(
        self, client: httpx.Client, bank_process: BankProcess, reference: str
    ):
        capture_id = capture(client, authorize(client, reference)).json()["id"]

        answers = [refund(client, capture_id, amount) for amount in (12000, 801, 800, 1)]

        assert [answer.status_code for answer in answers] == [200, 400, 200, 400]
        charged = {"authorizations": 1, "captures": 1, "refunds": 2}
        assert bank_process.charges(reference) == charged

    def test_keeps_its_currency(self, client: httpx.Client, reference: str):
        path = f"/v1/authorizations/{authorize(client, reference)}/capture"

        answer = post(client, path, {"amount": 12800, "currency": "EUR"})

        assert answer.json()["error"]["code"] == "currency_mismatch"

    def test_of_an_unknown_id_is_not_found(self, client: httpx.Client):
        assert capture(client, "auth_none").status_code == 404
        assert refund(client, "cap_none", 1).status_code == 404


class TestStatements:
    def test_list_all_operations_of_a_reference(self, client: httpx.Client, reference: str):
        voided, captured = authorize(client, reference), authorize(client, reference)
        post(client, f"/v1/authorizations/{voided}/void")
        capture_id = capture(client, captured).json()["id"]
        refund(client, capture_id, 300)

        newest, oldest = client.get("/v1/authorizations", params={"reference": reference}).json()[
            "data"
        ]

        assert (newest["id"], newest["status"], newest["void"]) == (captured, "captured", None)
        assert (newest["capture"]["id"], newest["capture"]["refunded"]) == (capture_id, 300)
        assert [one["amount"] for one in newest["refunds"]] == [300]
        assert (oldest["id"], oldest["status"], oldest["capture"]) == (voided, "voided", None)
        assert oldest["void"]["authorization"] == voided

    def test_sum_the_moved_amounts(self, client: httpx.Client, reference: str):
        authorize(client, reference, amount=1)
        taken = authorize(client, reference, amount=1000)
        refund(client, capture(client, taken, 900).json()["id"], 200)

        answer = client.get("/v1/charges", params={"reference": reference}).json()

        assert answer["data"][0]["reference"] == reference
        assert answer["totals"]["by_currency"] == {
            "JPY": {"amount_held": 1, "amount_captured": 900, "amount_refunded": 200}
        }

    def test_without_a_reference_cover_all_references(self, client: httpx.Client, reference: str):
        authorize(client, reference)

        answer = client.get("/v1/charges").json()

        assert reference in {row["reference"] for row in answer["data"]}
        sums = [row["authorizations"] for row in answer["data"]]
        assert answer["totals"]["authorizations"] == sum(sums)

    def test_count_webhooks_that_were_not_accepted(self, tmp_path: Path, reference: str):
        bank = BankProcess(tmp_path, "--webhook-url", "http://127.0.0.1:1/nobody")
        bank.start()
        try:
            before = bank.notices_owed
            with bank.client() as client:
                authorize(client, reference)
            after = bank.notices_owed
        finally:
            bank.kill()

        assert (before, after) == (0, 1)


class TestProgram:
    @pytest.fixture
    def own_bank(self, tmp_path: Path) -> Iterator[BankProcess]:
        process = BankProcess(tmp_path / "own")
        process.start()
        yield process
        process.kill()

    def test_keeps_its_answers_after_sigkill(self, own_bank: BankProcess, reference: str):
        with own_bank.client() as client:
            before = post(client, "/v1/authorizations", wanted(reference), key=reference)
            taken = capture(client, before.json()["id"])

        own_bank.kill()
        own_bank.start()

        with own_bank.client() as client:
            after = post(client, "/v1/authorizations", wanted(reference), key=reference)
            assert taken.status_code == 200
            assert after.json() == before.json()
        assert own_bank.charges(reference) == {"authorizations": 1, "captures": 1}

    def test_ends_on_sigterm(self, own_bank: BankProcess):
        assert own_bank.stop() == 0

    def test_reports_a_used_port_in_one_line(self, own_bank: BankProcess, tmp_path: Path):
        port = int(own_bank.url.rpartition(":")[2])

        second = self.run(bank_command(port, tmp_path / "second"))

        assert second.returncode == 1
        assert second.stderr.startswith(f"The bank cannot listen on 127.0.0.1:{port}")
        assert second.stderr.count("\n") == 1

    def test_reports_a_damaged_database_in_one_line(self, tmp_path: Path):
        (tmp_path / "bank.sqlite3").write_bytes(b"coffee" * 1000)

        started = self.run(bank_command(0, tmp_path))

        assert started.returncode == 1
        assert started.stderr == (
            f"The bank cannot use its database in {tmp_path}: file is not a database. "
            "Choose another --data.\n"
        )

    def test_imports_nothing_of_the_project(self):
        look = (
            "import payments.simulator.__main__, sys; print(sorted(set(sys.modules)"
            " & {'django', 'shop', 'outbox', 'orders', 'inventory', 'shared.money'}))"
        )

        assert self.run([sys.executable, "-c", look]).stdout.strip() == "[]"

    def run(self, command: list[str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, timeout=CEILING, check=False
        )
