"""The demo's last line and its exit code: 0 only if all is settled, reconciled and as required."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from django.core.mail import EmailMessage, get_connection
from django.core.mail.backends.base import BaseEmailBackend

from shop.demo.result import ReconcileResult, Result, count_emails, parse_output, unexpected_end
from shop.demo.scenarios import REFUSALS

BALANCED = ReconcileResult(balanced=True, report="")
GOOD = Result(shippable=14, cancelled=10, emails=65, unsettled=0, books=BALANCED)


class TestAResult:
    def test_is_one_json_object_with_these_keys_in_this_order(self):
        line = GOOD.line(seconds=12.345)

        assert line == (
            '{"orders": 24, "shippable": 14, "cancelled": 10, "emails": 65, "unsettled": 0, '
            '"books_balanced": true, "seconds": 12.3}'
        )

    def test_is_good_if_all_is_settled_reconciled_and_as_required(self):
        assert (GOOD.trouble, GOOD.exit_code) == ("", 0)

    @pytest.mark.parametrize(
        ("bad", "words"),
        [
            (replace(GOOD, unsettled=1), "outbox why"),
            (
                replace(GOOD, books=ReconcileResult(balanced=False, report="off by one")),
                "reconcile",
            ),
            (replace(GOOD, shippable=13), "must be 24"),
            (replace(GOOD, unexpected_ends=["Two must be cancelled."]), "Two must be cancelled."),
        ],
    )
    def test_is_bad_otherwise_and_names_the_next_step(self, bad: Result, words: str):
        assert bad.exit_code == 1
        assert words in bad.trouble

    def test_is_described_in_words(self):
        assert GOOD.in_words(seconds=56.9) == (
            "All 24 orders ended as required: 14 are ready to ship, and 10 are cancelled. 65 "
            "e-mails were sent. No delivery is owed, and reconciliation found no difference. The "
            "demo took 57 seconds."
        )

    def test_is_described_with_its_problem(self):
        bad = replace(GOOD, unsettled=1)

        words = bad.in_words(seconds=240)

        assert words.startswith("The demo failed after 240 seconds. 1 deliveries or events")
        assert "outbox why" in words

    def test_contains_the_result_of_the_reconciliation(self):
        bad = replace(GOOD, books=ReconcileResult(balanced=False, report=""))

        assert json.loads(bad.line(seconds=1))["books_balanced"] is False


class TestAnUnexpectedEnd:
    def test_is_empty_if_the_ends_are_as_required(self):
        ends = Counter({"out_of_stock": 2, "payment_declined": 2})

        assert unexpected_end(REFUSALS, ends) == ""

    def test_names_required_and_actual_ends(self):
        ends = Counter({"out_of_stock": 2, "payment_declined": 1, "ready_to_ship": 1})

        text = unexpected_end(REFUSALS, ends)

        assert "must end as 2 out_of_stock, 2 payment_declined" in text
        assert "ended as 2 out_of_stock, 1 payment_declined, 1 ready_to_ship" in text


class TestParsingOutput:
    def test_accepts_only_a_clear_success(self):
        assert parse_output(0, '{"balanced": true}', "").balanced

    @pytest.mark.parametrize(
        ("exit_code", "out"),
        [
            (1, '{"balanced": true}'),
            (0, '{"balanced": false}'),
            (0, "{}"),
            (0, "[]"),
            (0, ""),
            (0, '{"balanced": "yes"}'),
        ],
    )
    def test_treats_anything_else_as_a_failure(self, exit_code: int, out: str):
        assert not parse_output(exit_code, out, "").balanced

    def test_keeps_the_output(self):
        assert parse_output(1, "", "Unknown command\n").report == "Unknown command"


class TestCountingEmails:
    def test_finds_none_where_none_was_sent(self, tmp_path: Path):
        assert count_emails(tmp_path / "mail") == 0

    def test_counts_each_message_id_once_in_however_many_files(self, tmp_path: Path):
        with get_connection(
            "django.core.mail.backends.filebased.EmailBackend", file_path=tmp_path
        ) as one_file:
            send(one_file, "a")
            send(one_file, "b")
        send(
            get_connection("django.core.mail.backends.filebased.EmailBackend", file_path=tmp_path),
            "b",
        )

        assert len(list(tmp_path.iterdir())) == 2
        assert count_emails(tmp_path) == 2


def send(connection: BaseEmailBackend, name: str) -> None:
    EmailMessage(
        "Subject",
        "Text",
        to=["a@example.com"],
        headers={"Message-ID": f"<{name}@x>"},
        connection=connection,
    ).send()
