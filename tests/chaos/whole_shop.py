"""The whole shop in real processes, restarted as by a supervisor, and open to every fault."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import psutil

from shop.postgres import EmbeddedPostgres
from shop.up.ports import HOST, free_port
from tests.bank import API_KEY, BankProcess
from tests.chaos.broker import Broker
from tests.chaos.rabbitmq import RabbitMQ
from tests.chaos.stack import QUIET, ROOT, Stack

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


class WholeShop:
    """Its processes by name. A process that dies is restarted, unless a fault keeps it stopped."""

    def __init__(self, stack: Stack, bank: BankProcess, postgres: EmbeddedPostgres | None) -> None:
        self.stack, self.bank, self.postgres = stack, bank, postgres
        self.folder = stack.folder
        self.url = f"http://{HOST}:{free_port()}"
        self.kills = self.flushes = self.restarts = 0
        self.surprises: list[str] = []
        self._commands: dict[str, Sequence[str]] = {}
        self._held: set[str] = set()
        self._groups: list[int] = []
        self._lock = threading.RLock()
        self._over = threading.Event()
        mail_port = free_port()
        self._commands["mailbox"] = [
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

    def open(self, *, tellers: bool = True) -> None:
        """Prepare the database, start everything, wait until an order could be placed."""
        self.stack.run("-m", "shop.up.setup")
        self.stack.manage("shell", "-v0", "-c", RESTOCK)
        self._commands["web"] = self._web()
        for name in ("worker", "worker-2") if self.postgres else ("worker",):
            self._commands[name] = self.worker_command(name)
        self._commands["relay"] = self.relay_command("relay")
        self._commands["beat"] = self.beat_command()
        if tellers:
            self._commands["teller"] = [sys.executable, "manage.py", "tell"]
        for name in self._commands:
            self._start(name)
        threading.Thread(target=self._keep, daemon=True).start()
        self.stack.wait_until(self._is_open, "the shop is open")

    def close(self) -> None:
        """Kill everything, with the orphans of killed parents."""
        self._over.set()
        with self._lock:
            self.stack.stop_all()
        for group in self._groups:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(group, signal.SIGKILL)

    def token(self, user: str) -> str:
        known = json.loads((self.folder / "credentials.json").read_text())
        found = known[user].get("token") or self.stack.manage("create_api_token", user).strip()
        return str(found)

    def _is_open(self) -> bool:
        ready = all(
            " ready." in self.stack.log(name)
            for name in self._commands
            if name.startswith(("worker", "relay"))
        )
        with contextlib.suppress(httpx.HTTPError):
            return ready and httpx.get(f"{self.url}/livez").status_code == 200
        return False

    # --- for faults -------------------------------------------------------------------------------

    def pid(self, name: str) -> int | None:
        with self._lock:
            process = self.stack._processes.get(name)
            return process.pid if process and process.poll() is None else None

    def names(self, kind: str) -> list[str]:
        """The processes of a kind: "worker" names "worker" and "worker-2"."""
        return [name for name in self._commands if name.split("-")[0] == kind]

    def children(self, name: str) -> list[int]:
        if (pid := self.pid(name)) is None:
            return []
        with contextlib.suppress(psutil.NoSuchProcess):
            return [child.pid for child in psutil.Process(pid).children()]
        return []

    def kill_pid(self, pid: int | None) -> None:
        """SIGKILL one process alone."""
        if pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                self.kills += 1

    def kill(self, name: str) -> None:
        """SIGKILL a process with its children, as when its machine goes away."""
        with self._lock:
            if self.pid(name) is not None:
                self.stack.kill(name)
                self.kills += 1

    def hold_down(self, name: str) -> None:
        """Stop a process, and do not restart it."""
        with self._lock:
            self._held.add(name)
            if self.pid(name) is not None:
                self.stack.kill(name)

    @contextmanager
    def down(self, name: str) -> Iterator[None]:
        """Kill a process, and keep it stopped for the block."""
        self.hold_down(name)
        self.kills += 1
        try:
            yield
        finally:
            self._held.discard(name)
            self._start(name)
            self.restarts += 1

    @contextmanager
    def frozen(self, pid: int | None) -> Iterator[None]:
        """Pause a process for the block (SIGSTOP)."""
        if pid is None:
            yield
            return
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    @contextmanager
    def standing_still(self, name: str) -> Iterator[None]:
        """Pause a process and its children for the block."""
        self.stack.signal(name, signal.SIGSTOP)
        try:
            yield
        finally:
            self.stack.signal(name, signal.SIGCONT)

    @contextmanager
    def beside(self, name: str, command: Sequence[str]) -> Iterator[None]:
        """Run an additional process for the block."""
        self.stack.start(name, command)
        try:
            yield
        finally:
            self.kill(name)

    # --- commands ---------------------------------------------------------------------------------

    def worker_command(self, name: str) -> list[str]:
        return self._celery("worker", "-n", f"{name}@%h", "-X", "outbox", "-c", "3", *QUIET)

    def relay_command(self, name: str) -> list[str]:
        return self._celery("worker", "-n", f"{name}@%h", "-Q", "outbox", "--pool", "solo", *QUIET)

    def beat_command(self) -> list[str]:
        return self._celery("beat", "--loglevel", "INFO", "--pidfile", "")

    def _celery(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "celery", "--quiet", "-A", "shop", *arguments]

    def _web(self) -> list[str]:
        bind = self.url.removeprefix("http://")
        options = ["--workers", "2", "--threads", "4", "--bind", bind, "--no-control-socket"]
        return [sys.executable, "-m", "gunicorn", "shop.wsgi", *options]

    # --- the supervisor ---------------------------------------------------------------------------

    def _start(self, name: str) -> None:
        with self._lock:
            self._groups.append(self.stack.start(name, self._commands[name]))

    def _keep(self) -> None:
        while not self._over.wait(0.2):
            for name in self._commands:
                self._keep_one(name)

    def _keep_one(self, name: str) -> None:
        with self._lock:
            if self._over.is_set() or name in self._held or self.pid(name) is not None:
                return
            ended = self.stack._processes.get(name)
            if ended is not None and ended.returncode != -signal.SIGKILL:
                self.surprises.append(f"{name} ended with {ended.returncode}")
            self._start(name)
            self.restarts += 1


@contextmanager
def whole_shop(
    folder: Path, *, database: str, broker: str = "valkey", sabotage: str = ""
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
        stack = Stack(folder=folder, database_url=url, settings=SETTINGS, broker=own)
        cleanup.callback(stack.broker.clean_up)
        stack.environment["CHAOS_SABOTAGE"] = sabotage
        shop = WholeShop(stack, bank, postgres)
        cleanup.callback(shop.close)
        stack.start_broker()
        yield shop


def _rabbitmq(folder: Path) -> Broker:
    """A node of its own, which knows the shop's queues so that they can be purged."""
    told = subprocess.run(
        [sys.executable, "-c", QUEUES],
        cwd=ROOT,
        env={**os.environ, "DJANGO_SETTINGS_MODULE": SETTINGS},
        check=True,
        capture_output=True,
        text=True,
    )
    return RabbitMQ(folder, queues=told.stdout.split())
