"""`manage.py reconcile`, the hourly run of beat, and its admin page."""

from __future__ import annotations

import json
import logging
from io import StringIO
from typing import Any

import httpx
import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.test import Client

from orders.models import Order
from outbox.testing import Outbox
from shop.models import Reconciliation
from shop.tasks import reconcile
from tests.bank import BankProcess, bank, bank_process
from tests.inventory.factories import put_on_sale
from tests.orders.factories import place

__all__ = ["bank", "bank_process"]

pytestmark = pytest.mark.django_db


@pytest.fixture
def order(outbox: Outbox, bank: BankProcess) -> Order:
    put_on_sale("TEA", units=5)
    order = place()
    outbox.deliver_all()
    return order


def spoil(order: Order) -> None:
    Order.objects.filter(pk=order.pk).update(status="shipped")


def run(*options: str) -> tuple[int, str]:
    """The exit code and what was written."""
    out = StringIO()
    try:
        call_command("reconcile", *options, stdout=out)
    except SystemExit as end:
        return int(end.code or 0), out.getvalue()
    return 0, out.getvalue()


class TestTheCommand:
    def test_ends_with_0_without_differences(self, order: Order):
        code, out = run()

        assert code == 0
        assert "The reconciliation found no differences. No delivery is owed." in out
        assert "DIFFERS" not in out

    def test_ends_with_1_and_prints_differences_and_next_steps(self, order: Order):
        spoil(order)

        code, out = run()

        assert code == 1
        assert "DIFFERS  orders.status_matches_history" in out
        assert f"Order {order.reference} is shipped, but its history ends with ready_to_ship" in out
        assert "Next step: A row was changed without its service." in out
        assert "The reconciliation found 2 differences." in out

    def test_prints_the_number_of_keys_with_owed_deliveries(self, order: Order, outbox: Outbox):
        place()

        code, out = run()

        assert code == 0
        assert "Keys with owed deliveries: 1. See: manage.py outbox status." in out

    def test_logs_no_line_for_each_request_to_the_bank(
        self, order: Order, bank: BankProcess, caplog: pytest.LogCaptureFixture
    ):
        with caplog.at_level(logging.INFO):
            run("--all")
            httpx.get(f"{bank.url}/v1/nothing", trust_env=False)

        assert caplog.messages == []

    @pytest.mark.parametrize("options", [[], ["--all"]])
    def test_writes_one_json_object_for_programs(self, order: Order, options: list[str]):
        _, out = run("--json", *options)
        assert json.loads(out)["balanced"] is True
        spoil(order)

        code, out = run("--json", *options)

        said = json.loads(out)
        assert (code, said["balanced"], said["unsettled"]) == (1, False, 0)
        assert said["checked_at"].startswith("20")
        [one] = [it for it in said["invariants"] if it["name"] == "orders.status_matches_history"]
        assert (one["checked"], one["differences"], one["unsettled"]) == (1, 1, 0)
        [found] = one["difference_examples"]
        assert (found["key"], found["model"], found["id"]) == (
            *(str(order.pk), "orders.order", str(order.pk)),
        )


class TestTheRunOfBeat:
    def test_is_stored_and_logs_an_error_if_something_differs(
        self, order: Order, caplog: pytest.LogCaptureFixture
    ):
        with caplog.at_level(logging.ERROR):
            reconcile()
            assert caplog.messages == []
            spoil(order)
            reconcile()

        assert [run.balanced for run in Reconciliation.objects.all()] == [False, True]
        assert "The reconciliation found differences: 2." in caplog.text

    def test_is_stored_if_an_invariant_raises(
        self, order: Order, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ):
        """Failed: the run ended with the error, and the latest stored one was balanced."""

        def fail() -> None:
            raise KeyError("bank")

        spoil(order)
        monkeypatch.setattr("payments.gateway.current", fail)

        reconcile()

        stored = Reconciliation.objects.get()
        assert (stored.balanced, stored.differences) == (False, 3)
        found = {one["name"]: one["difference_examples"] for one in stored.report["invariants"]}
        [problem] = found["payments.bank_matches_payments"]
        assert problem["text"].startswith("It could not be examined: KeyError. ")
        assert found["orders.status_matches_history"]
        assert "The invariant payments.bank_matches_payments could not be examined" in caplog.text

    def test_deletes_the_oldest(self, order: Order, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(Reconciliation, "KEPT", 2)

        for _ in range(3):
            reconcile()

        assert Reconciliation.objects.count() == 2


class TestTheAdmin:
    def test_shows_each_difference_as_a_sentence_that_links_to_its_row(
        self, order: Order, client: Client
    ):
        spoil(order)
        reconcile()
        client.force_login(User.objects.create_superuser("staff"))

        page: Any = client.get(
            f"/admin/shop/reconciliation/{Reconciliation.objects.get().pk}/change/"
        )

        assert page.status_code == 200
        assert (
            f'<a href="/admin/orders/order/{order.pk}/change/">Order {order.reference} is shipped'
            in page.content.decode()
        )
        assert client.get("/admin/shop/reconciliation/").status_code == 200
        assert client.get("/admin/shop/reconciliation/add/").status_code == 403
