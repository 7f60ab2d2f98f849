"""The shop on nine hosts: two with web and relay, two with workers, and its servers on five."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx

from tests.bank import API_KEY, BankProcess
from tests.chaos.stack import QUIET, ROOT, Stack
from tests.cluster.network import Network, require
from tests.cluster.patroni import PatroniCluster, patroni_cluster
from tests.cluster.postgresql import Pair, postgresql_pair
from tests.cluster.sentinel import SentinelGroup

DATABASES, BROKERS = ("db-1", "db-2"), ("broker-1", "broker-2", "broker-3")
WEB, WORKERS = ("web-1", "web-2"), ("worker-1", "worker-2")
HOSTS = (*DATABASES, *BROKERS, *WEB, *WORKERS)
#: Only with Patroni.
ETCD = ("etcd-1", "etcd-2", "etcd-3")
_WEB_PORT = 8000
Databases = Pair | PatroniCluster


class ClusterShop:
    """The shop's processes on the hosts of a network. The bank, beat and the customers are outside.

    Attributes:
        network: the hosts, with their faults.
        databases: PostgreSQL's primary, on db-1 at first, and its standby, with or without Patroni.
        brokers: Valkey's primary, on broker-1, its replica, and three Sentinels.
    """

    def __init__(
        self, folder: Path, network: Network, databases: Databases, brokers: SentinelGroup
    ) -> None:
        self.network, self.databases, self.brokers = network, databases, brokers
        self.stack = Stack(
            folder=folder, database_url=databases.url, settings="shop.settings", broker=brokers
        )
        self.stack.environment |= {"DEBUG": "true", "OUTBOX": json.dumps({"LEASE_SECONDS": 10})}

    def open(self, bank_url: str) -> None:
        """Prepare the database, start all processes, and wait until an order could be placed."""
        self.stack.environment |= {"BANK_URL": bank_url, "BANK_API_KEY": API_KEY}
        self.stack.wait_until(self.brokers.answers, "each Sentinel knows the others")
        self.stack.run("-m", "shop.up.setup")
        known = json.loads((self.stack.folder / "credentials.json").read_text())
        customer = next(iter(known))
        self._token = (
            known[customer].get("token") or self.stack.manage("create_api_token", customer).strip()
        )
        for name in WEB:
            self._start_web(name)
            self._start_celery(name, "relay", "-Q", "outbox", "--pool", "solo")
        for name in WORKERS:
            self._start_celery(name, "worker", "-X", "outbox", "-c", "2")
        self.stack.start_beat()
        self.stack.wait_until(self._is_open, "all processes are ready")

    def place(self, *, at: str) -> str:
        """Place an order at a web host, under one key until it is accepted; return its id."""
        key, accepted = str(uuid4()), ""

        def is_accepted() -> bool:
            nonlocal accepted
            accepted = self._try_to_place(key, at=at)
            return bool(accepted)

        self.stack.wait_until(is_accepted, f"{at} accepts an order")
        return accepted

    def _try_to_place(self, key: str, *, at: str) -> str:
        """Return the id of the accepted order; "" without an answer, which the key repeats."""
        wanted = {
            "payment_method": "tok_success",
            "lines": [{"sku": "TEA-SENCHA", "quantity": 1}],
            "email": "ann@example.com",
        }
        try:
            with self._client(at) as client:
                answer = client.post("/api/orders/", json=wanted, headers={"Idempotency-Key": key})
        except httpx.HTTPError:
            return ""
        assert answer.status_code in (201, 409) or answer.status_code >= 500, answer.text
        return str(answer.json()["id"]) if answer.status_code == 201 else ""

    def status(self, order_id: str, *, at: str) -> str:
        """Return the status of an order, as a web host reads it; "" without an answer."""
        try:
            with self._client(at) as client:
                return str(client.get(f"/api/orders/{order_id}/").json().get("status", ""))
        except httpx.HTTPError:
            return ""

    def wait_until_ready(self, order_id: str, *, at: str) -> None:
        """Wait until stock, payment and e-mails of an order are done."""
        self.stack.wait_until(
            lambda: self.status(order_id, at=at) == "ready_to_ship", f"{order_id} is ready to ship"
        )

    def wait_until_open(self, *, at: str) -> None:
        """Wait until a web host reads the database."""
        self.stack.wait_until(lambda: self._answers(at, "/readyz"), f"{at} is open")

    def number_of_events(self) -> int:
        return int(self.stack.value("SELECT count(*) FROM outbox_event"))

    def close(self) -> None:
        """End all clients of the servers, which then stop soon. The network ends the rest."""
        self.stack.stop_all()
        for name in (*WEB, *WORKERS):
            self.network[name].kill()

    def _client(self, name: str) -> httpx.Client:
        headers = {"Authorization": f"Token {self._token}", "Host": "localhost"}
        url = f"http://{self.network[name].address}:{_WEB_PORT}"
        return httpx.Client(base_url=url, headers=headers, timeout=30, trust_env=False)

    def _is_open(self) -> bool:
        logs = [self.stack.log(f"{name}-relay") for name in WEB]
        logs += [self.stack.log(f"{name}-worker") for name in WORKERS]
        return all(" ready." in log for log in logs) and all(
            self._answers(name, "/livez") for name in WEB
        )

    def _answers(self, name: str, path: str) -> bool:
        try:
            with self._client(name) as client:
                return client.get(path).status_code == 200
        except httpx.HTTPError:
            return False

    def _start_web(self, name: str) -> None:
        bind = f"{self.network[name].address}:{_WEB_PORT}"
        options = ["--workers", "1", "--bind", bind, "--no-control-socket"]
        self._start(name, "web", [sys.executable, "-m", "gunicorn", "shop.wsgi", *options])

    def _start_celery(self, name: str, kind: str, *options: str) -> None:
        command = [sys.executable, "-m", "celery", "-A", "shop", "worker"]
        self._start(name, kind, [*command, "-n", f"{kind}@{name}", *options, *QUIET])

    def _start(self, name: str, kind: str, command: list[str]) -> None:
        with (self.stack.folder / f"{name}-{kind}.log").open("wb") as log:
            self.network[name].start(
                command,
                cwd=ROOT,
                env=self.stack.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )


@contextmanager
def cluster_shop(*, patroni: bool = False) -> Iterator[ClusterShop]:
    """Yield an open shop on its hosts; remove everything afterwards.

    Raises:
        NoNetwork: no hosts can be created here.
        NoPatroni: a program of Patroni is missing.
    """
    require()
    with ExitStack() as cleanup:
        folder = Path(cleanup.enter_context(tempfile.TemporaryDirectory(prefix="shop-cluster-")))
        folder.chmod(0o711)  # Patroni does not run as root
        network = cleanup.enter_context(Network((*HOSTS, *(ETCD if patroni else ()))))
        databases = cleanup.enter_context(_databases(network, folder, patroni=patroni))
        brokers = SentinelGroup([network[name] for name in BROKERS], folder / "brokers")
        brokers.start()
        bank = BankProcess(folder / "bank", "--host", network.address)
        bank.start()
        cleanup.callback(bank.kill)
        shop = ClusterShop(folder, network, databases, brokers)
        cleanup.callback(shop.close)
        shop.open(bank.url)
        yield shop


def _databases(
    network: Network, folder: Path, *, patroni: bool
) -> AbstractContextManager[Databases]:
    two = [network[name] for name in DATABASES]
    if patroni:
        return patroni_cluster(network, two, [network[name] for name in ETCD], folder)
    return postgresql_pair(network, *two)


def hosts_of(shop: ClusterShop) -> list[dict[str, Any]]:
    """Return name, address and number of processes of each host."""
    return [
        {"name": name, "address": shop.network[name].address,
         "processes": shop.network[name].number_of_processes()}
        for name in shop.network.names
    ]  # fmt: skip
