"""The schema is the documented one, and each operation conforms to it.

What follows from one request to the next is in test_openapi_links.
"""

from __future__ import annotations

import subprocess
import sys
from typing import Any
from uuid import uuid4

import pytest
from django.conf import settings
from django.core.management import call_command
from hypothesis import seed
from schemathesis.core.result import Ok
from schemathesis.pytest.lazy import get_all_tests
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

#: The first request imports the modules that describe the operations.
IMPORTED_IN_JAPANESE = """
import django
from django.core.management import call_command
from django.utils import translation
django.setup()
with translation.override("ja"):
    import shop.urls, webhooks.schema
call_command("spectacular", file={path!r})
"""


class TestTheSchema:
    def test_is_the_one_in_the_documentation(self, tmp_path: Any):
        """If not, and the change is meant: make schema."""
        call_command("spectacular", "--validate", "--fail-on-warn", "--file", tmp_path / "now.yaml")

        assert (tmp_path / "now.yaml").read_text() == COMMITTED.read_text()

    def test_has_no_texts_in_the_language_of_the_first_request(self, tmp_path: Any):
        """Failed: a process that was first asked in Japanese kept Japanese texts of webhooks."""
        program = IMPORTED_IN_JAPANESE.format(path=str(tmp_path / "now.yaml"))
        subprocess.run([sys.executable, "-c", program], cwd=settings.BASE_DIR, check=True)

        assert (tmp_path / "now.yaml").read_text() == COMMITTED.read_text()


@pytest.mark.usefixtures("shop")
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("number", SEEDS)
@pytest.mark.parametrize("operation_id", OPERATIONS)
def test_an_operation_keeps_its_schema(operation_id: str, number: int):
    @seed(number)
    @BUDGET
    def keeps_its_schema(case: Any) -> None:
        aim(case)

        case.call_and_validate(headers=SIGNED_IN, excluded_checks=[positive_data_acceptance])

    # Not by `parametrize()` of schemathesis: it generates the cases of all operations, which takes
    # ten seconds, while each process of a parallel run collects the tests.
    chosen = schema.include(operation_id=operation_id).clone(test_function=keeps_its_schema)
    (made,) = get_all_tests(
        schema=chosen, test_func=keeps_its_schema, settings=None, given_kwargs=None
    )
    assert isinstance(made, Ok), made
    _operation, test = made.ok()
    test()


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
