"""The bank simulator as a real process, for every test that needs a bank.

In a conftest.py: `from tests.bank import bank, bank_process`. The fixture `bank` points the
settings at one process that all tests of the session share; orders have ids of their own, so
they do not meet.
"""

from __future__ import annotations

import os
import re
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest
from pytest_django import Settings

from shop.up.ports import free_port
from tests.processes import CEILING

ROOT = Path(__file__).resolve().parent.parent
API_KEY = "key-for-tests"
WEBHOOK_SECRET = "webhook-secret-for-tests"
SLOW_SECONDS = 1.0
#: Seconds that the shop waits for it on a busy machine.
PATIENCE = 60.0
COUNTED = ("authorizations", "declines", "captures", "voids", "refunds")


class BankProcess:
    """`python -m payments.simulator` with its books in a folder, and options of its own."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder = folder
        self.options = options
        self.url = ""
        # No outgoing connection takes it while the bank is down.
        self._port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, on the same port each time, and wait until it listens."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [*bank_command(self._port, self.folder), *self.options],
                cwd=ROOT,
                env={
                    **os.environ,
                    "BANK_API_KEY": API_KEY,
                    "BANK_WEBHOOK_SECRET": WEBHOOK_SECRET,
                },
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self.url = self._wait_for_url()

    def stop(self) -> int:
        """Stop it politely and return its exit status."""
        assert self._process
        self._process.terminate()
        return self._process.wait(timeout=CEILING)

    def kill(self) -> None:
        """Kill it as a power cut would."""
        assert self._process
        self._process.kill()
        self._process.wait(timeout=CEILING)

    @property
    def pid(self) -> int:
        assert self._process
        return self._process.pid

    @property
    def log(self) -> str:
        """All that it has written since it was started."""
        return (self.folder / "log").read_text()

    def client(self, **options: Any) -> httpx.Client:
        """An HTTP client that shows the key."""
        options = {"headers": {"Authorization": f"Bearer {API_KEY}"}, "timeout": 30, **options}
        return httpx.Client(base_url=self.url, trust_env=False, **options)

    def charges(self, reference: UUID | str) -> dict[str, int]:
        """What the bank did under a reference, without the zeros: {"authorizations": 1}."""
        with self.client() as client:
            answer = client.get("/v1/charges", params={"reference": str(reference)}).json()
        return {name: answer["totals"][name] for name in COUNTED if answer["totals"][name]}

    @property
    def notices_owed(self) -> int:
        """How many webhooks nobody has taken yet."""
        with self.client() as client:
            return int(client.get("/v1/notices").json()["owed"])

    def forget(self, key: str) -> None:
        """Let it forget an idempotency key, as it does once the key's life is over."""
        with closing(sqlite3.connect(self.folder / "bank.sqlite3", timeout=30)) as books, books:
            books.execute("DELETE FROM answers WHERE idempotency_key = ?", [key])

    def _wait_for_url(self) -> str:
        assert self._process
        deadline = time.monotonic() + CEILING
        while not (found := re.search(r"listening on (http://\S+)", self.log)):
            assert self._process.poll() is None, f"The bank has ended: {self.log}"
            assert time.monotonic() < deadline, f"The bank does not listen: {self.log}"
            time.sleep(0.02)
        return found[1]


def bank_command(port: int, folder: Path) -> list[str]:
    command = [sys.executable, "-m", "payments.simulator", "--port", str(port)]
    return [*command, "--data", str(folder), "--slow-seconds", str(SLOW_SECONDS)]


@pytest.fixture(scope="session")
def bank_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BankProcess]:
    """One bank for the whole session."""
    process = BankProcess(tmp_path_factory.mktemp("bank"))
    process.start()
    yield process
    process.stop()


@pytest.fixture
def bank(bank_process: BankProcess, settings: Settings) -> BankProcess:
    """The session's bank, and settings that point at it."""
    settings.BANK_URL = bank_process.url
    settings.BANK_API_KEY = API_KEY
    settings.BANK_TIMEOUT_SECONDS = PATIENCE
    return bank_process
