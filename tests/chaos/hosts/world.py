"""The shop with the proving app on nine hosts, whose links, processes and clocks faults break."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx

from tests.bank import API_KEY, BankProcess
from tests.chaos.hosts.clocks import Clock
from tests.chaos.hosts.databases import Databases, databases
from tests.chaos.hosts.patroni import PatroniDatabases, patroni_databases
from tests.chaos.hosts.timing import Timing
from tests.chaos.stack import QUIET, ROOT, Stack
from tests.chaos.whole_shop import BANK_IS_SLOW, BANK_PATIENCE, RESTOCK
from tests.cluster.network import Network, require
from tests.cluster.rabbitmq import RabbitGroup
from tests.cluster.sentinel import SentinelGroup

DATABASES, BROKERS = ("db-1", "db-2"), ("broker-1", "broker-2", "broker-3")
#: Only with Patroni.
ETCD = ("etcd-1", "etcd-2", "etcd-3")
WEB, WORKERS = ("web-1", "web-2"), ("worker-1", "worker-2")
#: Of the bank, the mail server, the program that emits, and beat, which no fault concerns.
OUTSIDE = "outside"
SETTINGS = "tests.chaos.hosts.settings"
_WEB_PORT, _MAIL_PORT = 8000, 2525
# Waits for the end of its input, and then for the end of the servers.
_GUARD = """
cat >/dev/null
for _try in 1 2 3 4 5 6 7 8 9 10; do rm -rf "$1" 2>/dev/null && exit; sleep 1; done
"""
#: Seconds to start or to repair something. Generous: reaching it is a failure.
CEILING = 600.0
Brokers = SentinelGroup | RabbitGroup
Primaries = Databases | PatroniDatabases
_CELERY = (sys.executable, "-m", "celery", "--quiet", "-A", "shop", "worker")


class HostsWorld:
    """The hosts of the shop. Bank, mail server, emitting program and beat have one without faults.

    Attributes:
        network: the hosts, with the faults of their links.
        databases: PostgreSQL's primary and standby, with or without Patroni.
        brokers: Valkey's primary, its replica, and three Sentinels; or three nodes of RabbitMQ.
        timing: measures the seconds after each fault.
        kills: hosts that faults have killed.
        surprises: ends of processes that no fault has caused.
    """

    def __init__(
        self, stack: Stack, network: Network, servers: tuple[Primaries, Brokers],
        bank: BankProcess,
    ) -> None:  # fmt: skip
        self.stack, self.network, self.bank = stack, network, bank
        self.databases, self.brokers = servers
        self.folder = stack.folder
        self.timing = Timing(self.value)
        self.kills = 0
        self.surprises: list[str] = []
        self._processes: dict[tuple[str, str], subprocess.Popen[Any]] = {}
        self._clocks = {name: Clock(self.folder / f"{name}.clock") for name in (*WEB, *WORKERS)}
        self._lock, self._over = threading.RLock(), threading.Event()
        stack.environment |= {
            "BANK_URL": bank.url,
            "BANK_API_KEY": API_KEY,
            "BANK_TIMEOUT_SECONDS": BANK_PATIENCE,
            "BANK_PROCESSING_SECONDS": "2",
            "EMAIL_URL": f"smtp://{network[OUTSIDE].address}:{_MAIL_PORT}",
            "CHAOS_DIR": str(stack.folder),
            "DEBUG": "true",
            "WORKER_GRACE": "3",
        }

    # --- what a run reads -------------------------------------------------------------------------

    @property
    def mail_folder(self) -> Path:
        return self.folder / "mailbox"

    @property
    def urls(self) -> list[str]:
        """The addresses of the web hosts."""
        return [f"http://{self.network[name].address}:{_WEB_PORT}" for name in WEB]

    def value(self, statement: str, *parameters: Any) -> Any:
        """Return the one value of a query. Raises if the primary cannot be reached."""
        return self.stack.value(statement, *parameters)

    def token(self, user: str) -> str:
        known = json.loads((self.folder / "credentials.json").read_text())
        found = known[user].get("token") or self.stack.manage("create_api_token", user).strip()
        return str(found)

    def metrics(self, host: str) -> dict[str, float]:
        """Return the samples of a web host's `/metrics`, by name and labels."""
        url = f"http://{self.network[host].address}:{_WEB_PORT}/metrics"
        headers = {"Authorization": "Bearer token-of-chaos"}
        with httpx.Client(headers=headers, timeout=10, trust_env=False) as client:
            lines = client.get(url).text.splitlines()
        pairs = (line.rsplit(" ", 1) for line in lines if line and not line.startswith("#"))
        return {name: float(value) for name, value in pairs}

    # --- start and end ----------------------------------------------------------------------------

    def open(self) -> None:
        """Prepare the database, start everything, wait until an order could be placed."""
        self._wait_until(self.brokers.answers, "each broker knows the others")
        self.stack.run("-m", "shop.up.setup")
        self.stack.manage("shell", "-v0", "-c", RESTOCK)
        outside = self.network[OUTSIDE]
        mail = [str(_MAIL_PORT), str(self.mail_folder), outside.address]
        with outside.entered():
            self.stack.start("mailbox", [sys.executable, "-m", "tests.chaos.mailbox", *mail])
            self.stack.start_beat()
            self.stack.start("changer", [sys.executable, "manage.py", "change_things"])
        for name in (*WEB, *WORKERS):
            self.start_processes(name)
        self._wait_until(self.is_open, "all hosts work")
        threading.Thread(target=self._keep, daemon=True).start()

    def is_open(self) -> bool:
        """Return whether all processes of the hosts have started."""
        logs = [self._log(name, "relay") for name in WEB]
        logs += [self._log(name, "worker") for name in WORKERS]
        return all(" ready." in log for log in logs) and all(map(self._is_live, self.urls))

    def close(self) -> None:
        """End all clients of the servers. The network ends the rest."""
        self._over.set()
        self.stack.stop_all()
        with self._lock:
            for name in (*WEB, *WORKERS):
                self.network[name].kill()

    # --- for faults -------------------------------------------------------------------------------

    def kill_host(self, name: str) -> None:
        """Cut a host off, and kill its processes."""
        with self._lock:
            for pair in [pair for pair in self._processes if pair[0] == name]:
                del self._processes[pair]
            self.network[name].kill()
            self.kills += 1

    def restart_host(self, name: str) -> None:
        """Connect a killed host again, and start its processes."""
        self.network[name].mend()
        self.start_processes(name)

    def set_clock(self, name: str, seconds: int) -> None:
        self._clocks[name].set(seconds)

    def start_processes(self, name: str) -> None:
        """Start the processes of a host."""
        with self._lock:
            for kind, command in self._commands(name).items():
                self._start(name, kind, command)

    def wait_until(self, condition: Any, what: str) -> None:
        """Wait until a condition holds that asks servers; they may be away meanwhile."""

        def holds() -> bool:
            with suppress(Exception):  # no answer: not yet
                return bool(condition())
            return False

        self._wait_until(holds, what)

    # --- processes --------------------------------------------------------------------------------

    def _commands(self, name: str) -> Mapping[str, list[str]]:
        if name in WORKERS:
            return {"worker": [*_CELERY, "-n", f"worker@{name}", "-X", "outbox", "-c", "2", *QUIET]}
        relay = [*_CELERY, "-n", f"relay@{name}", "-Q", "outbox", "--pool", "solo", *QUIET]
        bind = f"{self.network[name].address}:{_WEB_PORT}"
        options = ["--workers", "1", "--threads", "4", "--bind", bind, "--no-control-socket"]
        return {"web": [sys.executable, "-m", "gunicorn", "shop.wsgi", *options], "relay": relay}

    def _start(self, name: str, kind: str, command: list[str]) -> None:
        own = {"CHAOS_HOST": name, "CHAOS_ROLE": kind, **self._clocks[name].variables}
        with (self.folder / f"{name}-{kind}.log").open("ab") as log:
            self._processes[name, kind] = self.network[name].start(
                command,
                cwd=ROOT,
                env={**self.stack.environment, **own},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def _keep(self) -> None:
        """Start processes again that ended without a fault, as a supervisor does, and record it."""
        while not self._over.wait(0.5):
            with self._lock:
                for (name, kind), process in list(self._processes.items()):
                    if process.poll() is not None and not self._over.is_set():
                        self.surprises.append(f"{kind} of {name} ended: {process.returncode}")
                        self._start(name, kind, self._commands(name)[kind])

    def _log(self, name: str, kind: str) -> str:
        return self.stack.log(f"{name}-{kind}")

    def _is_live(self, url: str) -> bool:
        try:
            return httpx.get(f"{url}/livez", timeout=10, trust_env=False).status_code == 200
        except httpx.HTTPError:
            return False

    def _wait_until(self, condition: Any, what: str) -> None:
        self.stack.wait_until(condition, what, ceiling=CEILING)


@contextmanager
def _data_folder() -> Iterator[Path]:
    """Yield a folder that every user may enter. It is removed also if this process is killed."""
    folder = Path(tempfile.mkdtemp(prefix="shop-chaos-", dir="/tmp"))
    folder.chmod(0o711)
    guard = subprocess.Popen(["/bin/sh", "-c", _GUARD, "guard", folder], stdin=subprocess.PIPE,
                             start_new_session=True)  # fmt: skip
    try:
        yield folder
    finally:
        guard.communicate()


@contextmanager
def hosts_world(
    folder: Path,
    *,
    broker: str = "valkey",
    sabotage: str = "",
    patroni: bool = False,
) -> Iterator[HostsWorld]:
    """Yield a world that is not open yet; remove everything afterwards.

    Raises:
        NoNetwork: no hosts can be created here.
        NoPatroni: a program of Patroni is missing.
        FileNotFoundError: RabbitMQ is the broker, and is not installed.
    """
    require()
    names = (*DATABASES, *BROKERS, *WEB, *WORKERS, OUTSIDE, *(ETCD if patroni else ()))
    with ExitStack() as cleanup:
        data = cleanup.enter_context(_data_folder())
        network = cleanup.enter_context(Network(names))
        outside = network[OUTSIDE]
        bank = BankProcess(folder / "bank", *BANK_IS_SLOW, "--host", outside.address)
        with outside.entered():
            bank.start()
        cleanup.callback(bank.kill)
        pair = cleanup.enter_context(_databases(network, data, patroni=patroni))
        kind = RabbitGroup if broker == "rabbitmq" else SentinelGroup
        brokers = kind([network[name] for name in BROKERS], data / "brokers")
        brokers.start()
        stack = Stack(folder=folder, database_url=pair.url, settings=SETTINGS, broker=brokers)
        stack.environment["CHAOS_SABOTAGE"] = sabotage
        stack.database_url = pair.patient_url  # of our own queries, while hosts are lost
        world = HostsWorld(stack, network, (pair, brokers), bank)
        cleanup.callback(world.close)
        yield world


def _databases(
    network: Network, folder: Path, *, patroni: bool
) -> AbstractContextManager[Primaries]:
    two = (network[DATABASES[0]], network[DATABASES[1]])
    if patroni:
        return patroni_databases(network, two, [network[name] for name in ETCD], folder)
    return databases(network, two, folder)
