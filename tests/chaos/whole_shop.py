"""The whole shop in real processes, restarted as by a supervisor, and open to every fault."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx

from shop.postgres import EmbeddedPostgres
from shop.up.ports import HOST, free_port
from tests.bank import API_KEY, BankProcess
from tests.chaos.broker import Broker
from tests.chaos.rabbitmq import RabbitMQ
from tests.chaos.stack import ROOT, Stack
from tests.chaos.supervisor import Supervisor
from tests.chaos.without_broker import NoBroker

BANK_IS_SLOW = ("--slow-seconds", "0.9", "--processing-seconds", "2")
BANK_PATIENCE = "0.5"
SETTINGS = "tests.chaos.proving_settings"
QUEUES = (
    "import django; django.setup()\n"
    "from outbox.subscriptions import queues\n"
    "print(*{'outbox'}.union(*queues().values()))"
)
RESTOCK = (
    "from inventory.services import receive_stock as receive\n"
    "for sku in ('TEA-SENCHA', 'WHISK-CHASEN'):\n"
    "    receive(sku=sku, quantity=200_000, reference='chaos')"
)


class WholeShop(Supervisor):
    """Its processes by name."""

    def __init__(self, stack: Stack, bank: BankProcess, postgres: EmbeddedPostgres | None) -> None:
        super().__init__(stack)
        self.bank, self.postgres = bank, postgres
        self.folder = stack.folder
        self.url = f"http://{HOST}:{free_port()}"
        self.flushes = 0
        mail_port = free_port()
        self.commands["mailbox"] = [
            *(sys.executable, "-m", "tests.chaos.mailbox", str(mail_port), str(self.mail_folder))
        ]
        stack.environment |= {
            "BANK_URL": bank.url,
            "BANK_API_KEY": API_KEY,
            "BANK_TIMEOUT_SECONDS": BANK_PATIENCE,
            "BANK_PROCESSING_SECONDS": "2",
            "EMAIL_URL": f"smtp://{HOST}:{mail_port}",
            "CHAOS_DIR": str(stack.folder),
            "WORKER_GRACE": "3",
        }

    @property
    def mail_folder(self) -> Path:
        return self.folder / "mailbox"

    # --- start and end ----------------------------------------------------------------------------

    def open(self, *, changers: bool = True) -> None:
        """Prepare the database, start everything, wait until an order could be placed."""
        self.stack.run("-m", "shop.up.setup")
        self.stack.manage("shell", "-v0", "-c", RESTOCK)
        self.commands["web"] = self._web()
        for name in ("worker", "worker-2") if self.postgres else ("worker",):
            self.commands[name] = self.worker_command(name)
        self.commands["relay"] = self.relay_command("relay")
        if not self.stack.is_local:
            self.commands["beat"] = self.beat_command()
        if changers:
            self.commands["changer"] = [sys.executable, "manage.py", "change_things"]
        self.start_all()
        self.stack.wait_until(self._is_open, "the shop is open")

    def token(self, user: str) -> str:
        known = json.loads((self.folder / "credentials.json").read_text())
        found = known[user].get("token") or self.stack.manage("create_api_token", user).strip()
        return str(found)

    def _is_open(self) -> bool:
        sign = "Working: " if self.stack.is_local else " ready."
        ready = all(
            sign in self.stack.log(name)
            for name in self.commands
            if name.startswith(("worker", "relay"))
        )
        with contextlib.suppress(httpx.HTTPError):
            return ready and httpx.get(f"{self.url}/livez").status_code == 200
        return False

    # --- commands ---------------------------------------------------------------------------------

    def _web(self) -> list[str]:
        bind = self.url.removeprefix("http://")
        options = ["--workers", "2", "--threads", "4", "--bind", bind, "--no-control-socket"]
        return [sys.executable, "-m", "gunicorn", "shop.wsgi", *options]


@contextmanager
def whole_shop(
    folder: Path,
    *,
    database: str,
    broker: str = "valkey",
    sabotage: str = "",
) -> Iterator[WholeShop]:
    """Yield a shop that is not open yet, with a bank and a broker; close it afterwards."""
    with ExitStack() as cleanup:
        postgres, url = None, f"sqlite:///{folder / 'db.sqlite3'}"
        if database == "postgresql":
            data = cleanup.enter_context(TemporaryDirectory(prefix="shop-chaos-", dir="/tmp"))
            Path(data).chmod(0o755)
            postgres = EmbeddedPostgres(Path(data) / "postgres")
            url = postgres.start()
            cleanup.callback(postgres.stop)
        bank = BankProcess(folder / "bank", *BANK_IS_SLOW)
        bank.start()
        cleanup.callback(bank.kill)
        own = _rabbitmq(folder / "broker") if broker == "rabbitmq" else None
        own = NoBroker() if broker == "none" else own
        stack = Stack(folder=folder, database_url=url, settings=SETTINGS, broker=own)
        cleanup.callback(stack.broker.clean_up)
        stack.environment["CHAOS_SABOTAGE"] = sabotage
        shop = WholeShop(stack, bank, postgres)
        cleanup.callback(shop.close)
        stack.start_broker()
        yield shop


def _rabbitmq(folder: Path) -> Broker:
    """A node of its own, which knows the shop's queues so that they can be purged."""
    listed = subprocess.run(
        [sys.executable, "-c", QUEUES],
        cwd=ROOT,
        env={**os.environ, "DJANGO_SETTINGS_MODULE": SETTINGS},
        check=True,
        capture_output=True,
        text=True,
    )
    return RabbitMQ(folder, queues=listed.stdout.split())
