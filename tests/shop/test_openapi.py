"""The schema is the documented one, and each operation conforms to it.

What follows from one request to the next is in test_openapi_links.
"""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest
from django.core.management import call_command
from hypothesis import seed
from schemathesis.specs.openapi.checks import positive_data_acceptance

from orders.models import Order
from tests.shop.openapi import (
    BUDGET,
    COMMITTED,
    OPERATIONS,
    PRODUCTS,
    SEEDS,
    SIGNED_IN,
    schema,
    shop,
)
from webhooks.models import Endpoint

__all__ = ["shop"]


class TestTheSchema:
    def test_is_the_one_in_the_documentation(self, tmp_path: Any):
        """If not, and the change is meant: make schema."""
        call_command("spectacular", "--validate", "--fail-on-warn", "--file", tmp_path / "now.yaml")

        assert (tmp_path / "now.yaml").read_text() == COMMITTED.read_text()


def trial_of(operation_id: str, number: int) -> Any:
    @pytest.mark.usefixtures("shop")
    @pytest.mark.timeout(1200)
    @schema.include(operation_id=operation_id).parametrize()
    @seed(number)
    @BUDGET
    def test(case: Any) -> None:
        aim(case)

        case.call_and_validate(headers=SIGNED_IN, excluded_checks=[positive_data_acceptance])

    return test


# A name for each: of tests with one name, parallel runs take one only.
for operation_id in OPERATIONS:
    for number in SEEDS:
        name = f"test_{operation_id}_keeps_its_schema_with_seed_{number}"
        globals()[name] = trial_of(operation_id, number)


def aim(case: Any) -> None:
    """Let what is valid hit something: an order that is there, a product that is on sale."""
    if not case.meta.generation.mode.is_positive:
        return
    if case.path_parameters:
        case.path_parameters = {"id": target_of(case.path)}
    if case.method == "POST" and case.path == "/api/orders/":
        case.body["lines"] = [{"sku": PRODUCTS[0], "quantity": 1}]
    if case.path.startswith("/api/webhooks/") and isinstance(case.body, dict):
        case.body |= {"url": "https://hooks.example.com/"} if "url" in case.body else {}


def target_of(path: str) -> str:
    if path.startswith("/api/webhooks/"):
        endpoint = Endpoint.objects.first()
        return str(endpoint.pk if endpoint else uuid4())  # the last one may be removed by now
    return str(Order.objects.earliest("placed_at").pk)
