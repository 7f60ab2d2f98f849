"""Shared parts of the schema tests: schemathesis, its budget, and test data.

    SCHEMATHESIS_SEEDS=21,22 SCHEMATHESIS_EXAMPLES=300 pytest tests/shop -k openapi

tries other requests than the suite does, and more of them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from django.core.signals import request_finished, request_started
from django.db import close_old_connections
from hypothesis import HealthCheck, Phase, settings
from rest_framework.throttling import SimpleRateThrottle

from api.throttling import WrongTokenThrottle
from api.tokens import add_token
from orders import services
from outbox.testing import Outbox
from shop.wsgi import application
from tests.databases import kind_under_test
from tests.docs.pages import ROOT
from tests.inventory.factories import put_on_sale
from tests.orders.test_api import shipper
from webhooks.services import add_endpoint

COMMITTED = ROOT / "docs/reference/openapi.yaml"
TOKEN = "a-token-for-tests"
SIGNED_IN = {"Authorization": f"Bearer {TOKEN}"}
#: The product that the examples of the schema name comes first in the catalogue.
PRODUCTS = ("TEA-SENCHA", "WHISK-CHASEN")

#: The same requests each time, so that no build fails by chance. Each database gets its own.
_SEEDS = {"sqlite": "1", "postgresql": "2"}[kind_under_test()]
SEEDS = [int(one) for one in os.environ.get("SCHEMATHESIS_SEEDS", _SEEDS).split(",")]
EXAMPLES = int(os.environ.get("SCHEMATHESIS_EXAMPLES", "40"))
BUDGET = settings(
    max_examples=EXAMPLES,
    stateful_step_count=12,
    phases=[Phase.explicit, Phase.generate],  # to shrink a finding would take minutes
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)

schema = schemathesis.openapi.from_path(COMMITTED)
schema.app = application
# The links of the schema are tried, not those that schemathesis makes up beside them.
schema.config.phases.stateful.inference.algorithms = []
# Each request is signed in. Leaving the token out is not a wrong request then; another check of
# schemathesis, `ignored_auth`, sends requests without it.
schema.config.generation.update(with_security_parameters=False)
OPERATIONS = re.findall(
    r"^      operationId: (\w+)$", COMMITTED.read_text().partition("\nwebhooks:")[0], re.MULTILINE
)


@pytest.fixture
def shop(outbox: Outbox, monkeypatch: pytest.MonkeyPatch) -> Iterator[Outbox]:
    """A shop with products, and with staff who may do all and have an order and a webhook.

    Every host name can be resolved, without asking a name server.
    """
    monkeypatch.setattr(SimpleRateThrottle, "allow_request", lambda *_: True)
    monkeypatch.setattr(WrongTokenThrottle, "count", lambda *_: None)
    monkeypatch.setattr("webhooks.addresses._lookup", lambda *_, **__: ("1.1.1.1",))
    fill()
    # The test's transaction must outlive each request, as under Django's own test client.
    request_started.disconnect(close_old_connections)
    request_finished.disconnect(close_old_connections)
    yield outbox
    request_started.connect(close_old_connections)
    request_finished.connect(close_old_connections)


def fill() -> None:
    for sku in PRODUCTS:
        put_on_sale(sku, units=1_000_000)
    staff = shipper()
    add_token(user=staff, label="", token=TOKEN)
    add_endpoint(owner=staff, url="https://hooks.example.com/", event_types=["order.placed"])
    services.place_order(
        customer=staff,
        lines=[services.WantedLine(sku=PRODUCTS[0], quantity=2)],
        payment_method="tok_success",
        email=staff.email,
        language="en",
    )


def operation_of(case: Any) -> str:
    """Return the operationId of a request."""
    name: str = case.operation.definition.raw["operationId"]
    return name
