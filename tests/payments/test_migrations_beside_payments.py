"""The migrations of payments let payments continue, on a filled table of PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
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


@pytest.fixture
def before() -> Iterator[None]:
    """The tables of the release before."""
    call_command("migrate", "payments", BEFORE, verbosity=0)
    yield
    call_command("migrate", "payments", verbosity=0)


@cache
def released(name: str) -> Any:
    """The model as the release before has it."""
    state = MigrationLoader(None).project_state(("payments", BEFORE))
    return state.apps.get_model("payments", name)._default_manager


def pay() -> None:
    """Pay, and refund, as the release before."""
    card = {"amount": 1, "currency": "JPY", "payment_method": "tok_success"}
    payment = released("Payment").create(order_id=uuid4(), status="intended", **card)
    released("PaymentHistory").create(payment_id=payment.pk, to_status="intended", cause="test")
    refund = released("Refund").create(
        id=uuid4(), payment_id=payment.pk, status="intended", amount=1
    )
    released("RefundHistory").create(refund_id=refund.pk, to_status="intended", cause="test")


def fill(table: str) -> None:
    """Store many copies of the history's one row."""
    names = [row[0] for row in rows(_COLUMNS, table)]
    shown = ", ".join(names)
    rows(f"INSERT INTO {table} ({shown}) SELECT {shown} FROM {table}, generate_series(2, {ROWS})")
    rows(f"ANALYZE {table}")


_COLUMNS = """
SELECT column_name FROM information_schema.columns
WHERE table_name = %s AND column_name <> 'id' AND table_schema = current_schema()"""


def later_migrations() -> list[str]:
    found = sorted(name for app, name in MigrationLoader(None).disk_migrations if app == "payments")
    return found[found.index(BEFORE) + 1 :]


def test_block_no_payment(before: None):
    pay()
    fill("payments_paymenthistory")
    fill("payments_refundhistory")

    with Writers(pay) as payments:
        found = [
            one for name in later_migrations() for one in run_beside("payments", name, payments)
        ]

    assert found == []
