"""The migrations of payments let payments continue, on a filled table of PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from django.core.management import call_command
from django.db.migrations.loader import MigrationLoader

from tests.migrations_beside import Writers, rows, run_beside

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.postgresql,
    pytest.mark.timeout(300),
]

#: The last migration that no payment ran beside.
BEFORE = "0001_initial"
ROWS = 20_000
CARD = {"amount": 1, "currency": "JPY", "payment_method": "tok_success"}


@pytest.fixture
def before() -> Iterator[None]:
    """The tables of the release before."""
    call_command("migrate", "payments", BEFORE, verbosity=0)
    yield
    call_command("migrate", "payments", verbosity=0)


def released() -> Any:
    """The model of payments as the release before has it."""
    state = MigrationLoader(None).project_state(("payments", BEFORE))
    return state.apps.get_model("payments", "Payment")._default_manager


def later_migrations() -> list[str]:
    found = sorted(name for app, name in MigrationLoader(None).disk_migrations if app == "payments")
    return found[found.index(BEFORE) + 1 :]


def test_block_no_payment(before: None):
    manager = released()

    def pay() -> None:
        new = manager.create(order_id=uuid4(), status="intended", **CARD)
        manager.filter(pk=new.pk).update(status="authorized", authorization_id="auth")

    pay()
    names = [one.column for one in manager.model._meta.concrete_fields]
    new = {"id": "gen_random_uuid()", "order_id": "gen_random_uuid()"}
    values = ", ".join(new.get(name, f"t.{name}") for name in names)
    rows(
        f"INSERT INTO payments_payment ({', '.join(names)}) SELECT {values} "
        f"FROM payments_payment t, generate_series(2, {ROWS})"
    )
    rows("ANALYZE payments_payment")

    with Writers(pay) as payments:
        found = [
            one for name in later_migrations() for one in run_beside("payments", name, payments)
        ]

    assert found == []
