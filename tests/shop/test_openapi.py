"""The schema is the one in the documentation, and the API keeps it whatever it is sent."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, ClassVar
from uuid import uuid4

import pytest
import schemathesis
from django.core.exceptions import ValidationError
from django.core.management import call_command
from django.core.signals import request_finished, request_started
from django.db import close_old_connections
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test
from rest_framework.throttling import SimpleRateThrottle
from schemathesis.specs.openapi.checks import ignored_auth, positive_data_acceptance

from api.guessing import WrongTokens
from api.tokens import add_token
from orders.models import Order
from shop.wsgi import application
from tests.docs.pages import ROOT
from tests.orders.test_api import ready_to_ship, shipper
from webhooks.models import Endpoint
from webhooks.services import add_endpoint

COMMITTED = ROOT / "docs/reference/openapi.yaml"
TOKEN = "a-token-for-tests"
URL = "https://1.1.1.1/hooks"
SIGNED_IN = {"Authorization": f"Bearer {TOKEN}"}


class TestTheSchema:
    def test_is_the_one_in_the_documentation(self, tmp_path: Any):
        """If not, and the change is meant: make schema."""
        call_command("spectacular", "--validate", "--fail-on-warn", "--file", tmp_path / "now.yaml")

        assert (tmp_path / "now.yaml").read_text() == COMMITTED.read_text()


schema = schemathesis.openapi.from_path(COMMITTED)
schema.app = application


@pytest.fixture
def shop(db: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An order that can be shipped, something to order, and staff with a webhook who may do all."""
    monkeypatch.setattr(SimpleRateThrottle, "allow_request", lambda *_: True)
    monkeypatch.setattr(WrongTokens, "count", lambda *_: None)
    ready_to_ship()
    add_token(user=shipper(), label="", token=TOKEN)
    add_endpoint(owner=shipper(), url=URL, event_types=["order.placed"])
    # The test's transaction must outlive each request, as under Django's own test client.
    request_started.disconnect(close_old_connections)
    request_finished.disconnect(close_old_connections)
    yield
    request_started.connect(close_old_connections)
    request_finished.connect(close_old_connections)


SETTINGS = settings(
    max_examples=40,
    stateful_step_count=5,
    derandomize=True,  # the same requests each time: no build turns red by chance
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


def trial_of(operation_id: str) -> Any:
    @pytest.mark.usefixtures("shop")
    @schema.include(operation_id=operation_id).parametrize()
    @SETTINGS
    def test(case: Any) -> None:
        aim(case)

        case.call_and_validate(headers=SIGNED_IN, excluded_checks=[positive_data_acceptance])

    return test


# A name for each: of tests with one name, parallel runs take one only.
for operation_id in re.findall(r"operationId: (\w+)", COMMITTED.read_text()):
    globals()[f"test_{operation_id}_keeps_its_schema"] = trial_of(operation_id)


@pytest.mark.usefixtures("shop")
def test_all_keep_it_from_one_request_to_the_next() -> None:
    Workflow.followed.clear()

    run_state_machine_as_test(Workflow, settings=SETTINGS)

    assert len(Workflow.followed) >= 3, "No request took up what an earlier one answered."


class Workflow(schema.as_state_machine()):  # type: ignore[misc]  # a class made at run time
    """Places orders, and takes the id out of an answer to the next request."""

    followed: ClassVar[set[str]] = set()
    """What was tried on an order that was placed on the way."""

    def setup(self) -> None:
        self.placed: set[str] = set()

    def before_call(self, case: Any) -> None:
        aim(case)

    def get_call_kwargs(self, case: Any) -> dict[str, Any]:
        return {"headers": SIGNED_IN}

    def after_call(self, response: Any, case: Any) -> None:
        if response.status_code == 201 and case.path == "/api/orders/":
            self.placed.add(response.json()["id"])
        if response.status_code < 500 and (case.path_parameters or {}).get("id") in self.placed:
            self.followed.add(case.operation.definition.raw["operationId"])

    def validate_response(self, response: Any, case: Any, **_: Any) -> None:
        # Here the token is always sent, so none can be found missing.
        excluded = [positive_data_acceptance, ignored_auth]
        case.validate_response(response, excluded_checks=excluded, recorder=self.recorder)


def aim(case: Any) -> None:
    """Let what is valid hit something: an order that is there, a product that is on sale."""
    if not case.meta.generation.mode.is_positive:
        return
    if case.path_parameters and not is_there(case.path_parameters["id"]):
        case.path_parameters = {"id": target_of(case.path)}
    if case.method == "POST" and case.path == "/api/orders/":
        case.body["lines"] = [{"sku": "TEA", "quantity": 1}]
    if case.path.startswith("/api/webhooks/") and isinstance(case.body, dict):
        case.body |= {"url": URL} if "url" in case.body else {}


def is_there(id: Any) -> bool:
    """Whether it was taken out of an earlier answer, and not made up."""
    try:
        return any(model.objects.filter(pk=id).exists() for model in (Order, Endpoint))
    except (ValidationError, ValueError):
        return False


def target_of(path: str) -> str:
    if path.startswith("/api/webhooks/"):
        endpoint = Endpoint.objects.first()
        return str(endpoint.pk if endpoint else uuid4())  # the last one may be removed by now
    return str(Order.objects.earliest("placed_at").pk)
