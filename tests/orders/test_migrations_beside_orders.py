"""The migrations of the shop's orders let orders continue, on a filled table of PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from django.core.management import call_command
from django.db import connection
from django.db.migrations.loader import MigrationLoader
from django.db.models import UniqueConstraint

from orders import queries
from tests.migrations_beside import Writers, rows, run_beside

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(300)]

#: The last migration that no order ran beside.
BEFORE = "0002_email_index"
COLUMN = "0003_key_digest"
ROWS = 20_000
CONSTRAINT = "order_placed_once_with_a_key"
OF_REFUNDS = "refund_requested_once_with_a_key"
INDEX = "orders_by_email_in_any_case"


def later_migrations() -> list[str]:
    names = sorted(name for app, name in MigrationLoader(None).disk_migrations if app == "orders")
    return names[names.index(BEFORE) + 1 :]


def model_at(name: str, model: str, app: str = "orders") -> Any:
    """The model as a migration of the orders leaves it."""
    return MigrationLoader(None).project_state(("orders", name)).apps.get_model(app, model)


def migrate(name: str = "") -> None:
    call_command("migrate", "orders", *([name] if name else []), verbosity=0)


def constraints(table: str = "orders_order") -> dict[str, Any]:
    with connection.cursor() as cursor:
        found: dict[str, Any] = connection.introspection.get_constraints(cursor, table)
    return found


@pytest.fixture
def customer_id() -> int:
    user = model_at(BEFORE, "User", "auth")
    return int(user._default_manager.create(username="alice").pk)


@pytest.fixture
def before() -> Iterator[None]:
    """The tables of the release before."""
    migrate(BEFORE)
    yield
    migrate()


@pytest.fixture
def with_the_column(before: None) -> None:
    migrate(COLUMN)


class Released:
    """Places orders and requests a refund of each, as the release before."""

    def __init__(self, customer_id: int) -> None:
        self._orders = model_at(BEFORE, "Order")._default_manager
        self._refunds = model_at(BEFORE, "RefundRequest")._default_manager
        self._customer = customer_id

    def order(self) -> None:
        order = self._orders.create(
            reference=uuid4().hex[:14], customer_id=self._customer, email="alice@example.com",
            language="en", status="placed", total_amount=1, currency="JPY",
        )  # fmt: skip
        self._refunds.create(order_id=order.pk, amount=1, return_stock=False, requested_by="user:1")

    def fill(self) -> None:
        """Store many orders, and many refunds."""
        self.order()
        for manager in (self._orders, self._refunds):
            table = manager.model._meta.db_table
            names = [one.column for one in manager.model._meta.concrete_fields]
            new = {"id": "gen_random_uuid()", "reference": "lpad(n::text, 14, '0')"}
            values = ", ".join(new.get(name, f"t.{name}") for name in names)
            rows(
                f"INSERT INTO {table} ({', '.join(names)}) SELECT {values} "
                f"FROM {table} t, generate_series(2, {ROWS}) n"
            )
            rows(f"ANALYZE {table}")


@pytest.mark.postgresql
class TestAMigrationBesideOrders:
    def test_blocks_none_of_them(self, before: None, customer_id: int):
        released = Released(customer_id)
        released.fill()
        with Writers(released.order) as orders:
            found = [
                one for name in later_migrations() for one in run_beside("orders", name, orders)
            ]

        assert found == []
        assert constraints()[CONSTRAINT]["unique"]
        assert constraints("orders_refundrequest")[OF_REFUNDS]["unique"]
        assert {"orders_by_email", INDEX} & constraints().keys() == {INDEX}

    def test_replaces_what_an_interrupted_one_has_left(self, with_the_column: None):
        rows(f"CREATE UNIQUE INDEX {CONSTRAINT} ON orders_order (customer_id)")

        migrate()

        assert constraints()[CONSTRAINT]["columns"] == ["customer_id", "placed_with"]

    def test_replaces_an_index_that_an_interrupted_one_has_left(self, with_the_column: None):
        rows(f"CREATE INDEX {INDEX} ON orders_order (customer_id)")

        migrate()

        assert "upper" in constraints()[INDEX]["definition"].lower()

    def test_lets_a_search_use_its_index_at_once(self, before: None, customer_id: int):
        """Failed: PostgreSQL had no statistics of the expression, and read all orders by id."""
        Released(customer_id).fill()
        rows("UPDATE orders_order SET email = reference || '@example.com'")
        rows("ANALYZE orders_order")

        migrate()

        assert INDEX in queries.find_orders("absent@example.com")[:1].explain()

    def test_can_be_undone(self, before: None):
        migrate()

        migrate(BEFORE)

        assert {"orders_by_email", INDEX} & constraints().keys() == {"orders_by_email"}


class TestADatabaseThatHasTheConstraint:
    """From the first form of the migration that adds the column."""

    def test_keeps_it(self, with_the_column: None):
        with connection.schema_editor() as editor:
            editor.add_constraint(
                model_at(COLUMN, "Order"),
                UniqueConstraint(fields=["customer", "placed_with"], name=CONSTRAINT),
            )

        migrate()

        assert constraints()[CONSTRAINT]["unique"]

    def test_loses_it_with_the_migration(self, with_the_column: None):
        migrate()

        migrate(COLUMN)

        assert CONSTRAINT not in constraints()
