"""The shop as `make up` starts it, for a browser: real processes, a free port."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import psycopg
from playwright.sync_api import Page

from shop.demo.customers import Customer, PlacedOrder
from shop.demo.scenarios import OrderSpec
from shop.up.credentials import ADMIN, Credentials
from shop.up.ports import HOST, free_port
from tests.databases import fresh_database
from tests.processes import NOTHING_GIVEN, Running, eventually

ROOT = Path(__file__).resolve().parents[2]
CEILING = 180.0  # seconds; reaching it is a failure, not a measurement

#: Few attempts, close together, so that what cannot be done is dead while one looks.
HASTE = {"ATTEMPTS": 2, "BACKOFF_BASE": 0.1, "BACKOFF_CAP": 0.2}
#: A source that needs no process and no other server.
CARRIER = {
    "BACKEND": "outbox.sources.http.HttpSource",
    "OPTIONS": {"SECRETS": ["whsec_aHVudGVyMmh1bnRlcjJodW50ZXIyaHVudGVyMg=="]},
}
_OWED = """
from outbox.models import Delivery
for one in Delivery.objects.filter(state__in=("pending", "sent")).select_related("subscription"):
    about = one.subscription
    print(about.handler, one.state, one.attempts, one.due_at, "breaker:", about.breaker_opened_at)
"""
TEA = OrderSpec(customer="alice", lines={"TEA-SENCHA": 2})


def value_in(url: str, statement: str, *parameters: object) -> Any:
    """Read one value from a database by a separate connection; `?` is a parameter."""
    if url.startswith("sqlite"):
        path = url.removeprefix("sqlite:///")
        with closing(sqlite3.connect(path, timeout=30)) as lite:
            return lite.execute(statement, parameters).fetchone()[0]
    with psycopg.connect(url) as connection:
        row = connection.execute(statement.replace("?", "%s").encode(), parameters).fetchone()
        return row and row[0]


class Site:
    """A running shop. Its mail server is away until `mail_server()` says otherwise."""

    def __init__(self, folder: Path, database_url: str, **environment: str) -> None:
        self.folder = folder
        self._mail_port = free_port()
        self.environment: dict[str, str | None] = {
            **NOTHING_GIVEN,
            "SHOP_LOCAL_DIR": str(folder),
            "DATABASE_URL": database_url,
            "DJANGO_SETTINGS_MODULE": "shop.settings",
            "OUTBOX": json.dumps({**HASTE, "SOURCES": {"carrier": CARRIER}}),
            "EMAIL_URL": f"smtp://{HOST}:{self._mail_port}",
            "EMAIL_TIMEOUT_SECONDS": "10",
            "API_RATE_USER": "1000000/min",
            "BANK_TIMEOUT_SECONDS": "5",
            "WORKER_GRACE": "2",
            "LOG_LEVEL": "WARNING",
            **environment,
        }
        self._up = Running(
            [sys.executable, "manage.py", "up", "--port", "0", "--no-reload"],
            environment=self.environment,
            folder=ROOT,
        )

    def open(self) -> None:
        """Wait until all of it is ready."""
        self.url = self._up.says(r"(http://127\.0\.0\.1:\d+)/admin/", within=CEILING)[1]
        self._up.says("^Ctrl-C stops everything", within=CEILING)
        self.credentials = Credentials(self.folder)
        self.customer = Customer(self.url, self.credentials.get("alice", "token"))

    def close(self) -> None:
        self._up.end_for_sure()

    @property
    def password(self) -> str:
        """That of the superuser `admin`."""
        return self.credentials.get(ADMIN, "password")

    def log_in(self, page: Page) -> None:
        """Log the superuser in, in a window whose `base_url` is this site's."""
        page.goto("/admin/")
        page.get_by_label("Username").fill(ADMIN)
        page.get_by_label("Password").fill(self.password)
        page.get_by_role("button", name="Log in").click()
        page.get_by_role("heading", name="Site administration").wait_for()

    # --- what happens -----------------------------------------------------------------------------

    def place(self, spec: OrderSpec = TEA) -> PlacedOrder:
        """Place an order through the API, as a customer does."""
        return self.customer.place(spec)

    @contextmanager
    def mail_server(self) -> Iterator[None]:
        """Have a mail server where the shop looks for it, for the block."""
        command = [sys.executable, "-m", "tests.chaos.mailbox", str(self._mail_port)]
        server = Running([*command, str(self.folder / "mailbox")], folder=ROOT)
        try:
            server.says("The mailbox is open", within=CEILING)
            yield
        finally:
            server.end_for_sure()

    def run(self, code: str) -> str:
        """Run Python with the shop's models in a process of its own; return what it printed."""
        given = {**os.environ, **self.environment}
        done = subprocess.run(
            [sys.executable, "manage.py", "shell", "-v0", "-c", code],
            cwd=ROOT,
            env={name: value for name, value in given.items() if value is not None},
            capture_output=True,
            text=True,
            timeout=CEILING,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    # --- what is stored ---------------------------------------------------------------------------

    def value(self, statement: str, *parameters: object) -> Any:
        """Read one value from the database by a separate connection; `?` is a parameter."""
        return value_in(self.environment["DATABASE_URL"] or "", statement, *parameters)

    def deliveries(self, state: str, handler: str = "%") -> int:
        """Count the deliveries in a state."""
        found: int = self.value(
            "SELECT count(*) FROM outbox_delivery d JOIN outbox_subscription s"
            " ON s.id = d.subscription_id WHERE d.state = ? AND s.handler LIKE ?",
            *(state, handler),
        )
        return found

    def owed(self) -> int:
        """Count what is still to be done by the machine: waiting events, deliveries under way."""
        found: int = self.value(
            "SELECT (SELECT count(*) FROM outbox_event WHERE fanned_out_at IS NULL)"
            " + (SELECT count(*) FROM outbox_delivery WHERE state IN ('pending', 'sent'))"
        )
        return found

    def wait_until_settled(self) -> None:
        """Wait until nothing is owed.

        Raises:
            AssertionError: something is owed for too long; it names the handlers and the causes.
        """
        try:
            eventually(lambda: self.owed() == 0, "nothing is owed", within=CEILING)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.run(_OWED)}") from None


@contextmanager
def running_site(folder: Path, **environment: str) -> Iterator[Site]:
    """Yield the shop, open, on a database of the kind under test; stop everything afterwards.

    Args:
        environment: what the shop's settings read besides.
    """
    with ExitStack() as cleanup:
        url = cleanup.enter_context(fresh_database())
        site = Site(folder, url, **environment)
        cleanup.callback(site.close)
        site.open()
        yield site
