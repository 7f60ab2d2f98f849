"""Schemathesis places orders, and follows the links of the schema.

It knows the schema and a token. Which products there are, how an order is placed, and what may be
asked of it, it takes from links and examples.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, ClassVar, cast

import pytest
from django.db import transaction
from hypothesis import seed
from hypothesis.stateful import run_state_machine_as_test
from schemathesis.specs.openapi.checks import ignored_auth, positive_data_acceptance

from orders.models import Order
from outbox.testing import Outbox
from tests.bank import BankProcess, bank, bank_process
from tests.shop.openapi import BUDGET, SEEDS, SIGNED_IN, operation_of, schema, shop

__all__ = ["bank", "bank_process", "shop"]

#: What a link must have led to, with success.
OF_ORDERS = {"get_order", "get_order_timeline", "cancel_order", "ship_order", "refund_order"}
OF_WEBHOOKS = {
    "get_webhook",
    "change_webhook",
    "list_webhook_deliveries",
    "test_webhook",
    "rotate_webhook_secret",
    "remove_webhook",
}
#: So that the test cannot pass by doing nothing. One turn is most often enough for it.
FEWEST_ORDERS, FEWEST_BY_LINK, FEWEST_LINKS = 10, 4, 50
MOST_TURNS = 5


Machine = cast("Any", schema.as_state_machine())
# A scenario begins with no request that needs an id: a random one leads nowhere.
for rule in Machine.root_rules:
    if "_id_" in rule:
        delattr(Machine, rule)
Machine._root_labels = frozenset(label for label in Machine._root_labels if "{id}" not in label)


class Workflow(Machine):  # type: ignore[misc, valid-type]  # a class made at run time
    """Requests with random data and by links. Workers take up two orders of three at once."""

    outbox: ClassVar[Outbox]
    placed: ClassVar[int] = 0
    #: How often a link led to a request that succeeded, by its operations.
    followed: ClassVar[Counter[tuple[str, str]]] = Counter()

    def setup(self) -> None:
        """Begin as every scenario does: Hypothesis repeats the beginnings of earlier ones."""
        self.number = 0
        self._transaction = cast("Any", transaction.atomic())
        self._transaction._from_testcase = True  # as the one that Django opens around a test
        self._transaction.__enter__()

    def teardown(self) -> None:
        transaction.set_rollback(True)
        self._transaction.__exit__(None, None, None)

    def get_call_kwargs(self, case: Any) -> dict[str, Any]:
        return {"headers": SIGNED_IN}

    def step(self, input: Any) -> Any:
        output = super().step(input)
        if input.transition and input.is_applied and output.response.status_code < 300:
            source = self.recorder.cases[input.transition.parent_id].value
            self.followed[operation_of(source), operation_of(input.case)] += 1
        return output

    def after_call(self, response: Any, case: Any) -> None:
        super().after_call(response, case)
        is_repeated = "Idempotent-Replayed" in case_insensitive(response.headers)
        if operation_of(case) == "place_order" and response.status_code == 201 and not is_repeated:
            assert Order.objects.filter(pk=response.json()["id"]).exists()
            type(self).placed += 1
            self.number += 1
            if self.number % 3:
                self.work()

    def work(self) -> None:
        """Let the workers do what is due, without e-mails and webhooks: the order is then paid."""
        for app in ("inventory", "payments", "orders", "payments", "orders"):
            self.outbox.deliver_all(only=app)

    def validate_response(self, response: Any, case: Any, **_: Any) -> None:
        # Here the token is always sent, so none can be found missing.
        excluded = [positive_data_acceptance, ignored_auth]
        case.validate_response(response, excluded_checks=excluded, recorder=self.recorder)


def case_insensitive(headers: Any) -> set[str]:
    return {name.title() for name in headers}


class TestSchemathesis:
    @pytest.mark.timeout(1200)
    @pytest.mark.parametrize("number", SEEDS)
    def test_places_orders_and_follows_links(
        self, shop: Outbox, bank: BankProcess, number: int
    ) -> None:
        Workflow.outbox, Workflow.placed, Workflow.followed = shop, 0, Counter()

        for turn in range(MOST_TURNS):
            run_state_machine_as_test(seed(number + turn * 1_000_000)(Workflow), settings=BUDGET)
            if not lacking():
                break

        assert lacking() == []


def lacking() -> list[str]:
    """Name what has not been done often enough for the test to mean anything."""
    reached = {target for _source, target in Workflow.followed}
    done = {
        "orders placed": (Workflow.placed, FEWEST_ORDERS),
        "orders placed by a link": (
            Workflow.followed["list_products", "place_order"],
            FEWEST_BY_LINK,
        ),
        "links followed": (Workflow.followed.total(), FEWEST_LINKS),
        "webhooks' operations reached": (len(reached & OF_WEBHOOKS), len(OF_WEBHOOKS) // 2),
    }
    too_few = [
        f"{what}: {number} of {most}" for what, (number, most) in done.items() if number < most
    ]
    return [*too_few, *sorted(OF_ORDERS - reached)]
