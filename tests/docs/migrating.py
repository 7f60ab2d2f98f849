"""The examples of the migration guides: small projects that place orders and create invoices."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.docs.environments import Environment
from tests.docs.pages import Page
from tests.docs.projects import Project
from tests.package.built import Distribution
from tests.processes import eventually

#: The total of each invoice's order.
INVOICES = """
SELECT total FROM orders_invoice JOIN orders_order ON orders_order.id = order_id ORDER BY total
"""


class Example(Project):
    """The project of a guide. `database` is the URL of its PostgreSQL; without it, SQLite."""

    database = ""
    invoices = INVOICES

    def place(self, total: int) -> None:
        """Place an order in a process of its own."""
        self.evaluate(f"from orders.services import place_order; place_order({total})")

    def select(self, statement: str) -> list[int]:
        """Return the first column of what a statement selects."""
        if not self.database:
            with closing(sqlite3.connect(self.folder / "db.sqlite3", timeout=30)) as connection:
                return [number for (number,) in connection.execute(statement)]
        import psycopg  # only where PostgreSQL is asked for

        with psycopg.connect(self.database) as server:
            return [number for (number,) in server.execute(statement.encode())]

    def eventually_has_invoices_of(self, *totals: int) -> None:
        """Wait until exactly the orders with these totals have invoices, one each."""
        eventually(lambda: self.select(self.invoices) == [*totals], f"invoices of {totals}")


Begin = Callable[..., Example]


@pytest.fixture
def begin(tmp_path: Path, distribution: Distribution) -> Iterator[Begin]:
    """Return a function that makes the example of a guide, in an environment with packages.

    It has no outbox. The page's `pip install` finds the wheel that this checkout builds.
    """
    begun: list[Example] = []

    def make(page: Page, *packages: str, replaced: dict[str, str], database: str = "") -> Example:
        environment = Environment(tmp_path, wheels=distribution.wheel.parent)
        environment.install(packages)
        (tmp_path / "project").mkdir()
        project = Example(tmp_path / "project", environment, replaced)
        project.database = database
        begun.append(project)
        project.follow(page.section("The example"))
        return project

    yield make
    for project in begun:
        project.close()
