"""A member of a Patroni cluster: its PostgreSQL, its configuration, and what it answers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psycopg

from tests.cluster.network import Host

SCOPE, DATABASE, USER, REPLICATOR = "shop", "shop", "shop", "replicator"
PORT, API_PORT = 5432, 8008
#: Seconds of the lease, between two checks, and for an answer of etcd. The shortest lease that
#: Patroni allows is 20 s; its defaults are 30, 10 and 10.
TTL, LOOP_WAIT, RETRY_TIMEOUT = 20, 5, 5
_PARAMETERS = {
    "fsync": "off",  # the processes are killed, the machine is not
    "max_connections": 200,
    "unix_socket_directories": "",
    "wal_keep_size": "1GB",  # pg_rewind needs the WAL since the failover
    "wal_retrieve_retry_interval": "500ms",
    "wal_sender_timeout": "5s",  # a lost standby is noticed, so that commits stop waiting for it
}
# The built-in locale sorts and folds case the same on every machine.
_INITDB = [{"encoding": "UTF8"}, {"locale": "C"}, {"locale-provider": "builtin"},
           {"builtin-locale": "C.UTF-8"}]  # fmt: skip
_DYNAMIC = {
    "ttl": TTL,
    "loop_wait": LOOP_WAIT,
    "retry_timeout": RETRY_TIMEOUT,
    "synchronous_mode": True,
    # An asynchronous standby may lag by the WAL of a few seconds.
    "maximum_lag_on_failover": 64 * 1024 * 1024,
    "postgresql": {"use_pg_rewind": True, "parameters": _PARAMETERS},
}


@dataclass(frozen=True)
class Member:
    """A PostgreSQL and its Patroni, on a host of their own.

    Attributes:
        folder: of its data, its configuration and its log; every user may enter it.
        password: of the superuser, and of replication.
    """

    host: Host
    folder: Path
    password: str

    @property
    def url(self) -> str:
        return self._url(self.host.address)

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def binaries(self) -> Path:
        """Return the folder of PostgreSQL's programs that its Patroni uses."""
        known = json.loads((self.folder / "patroni.json").read_text())
        return Path(known["postgresql"]["bin_dir"])

    @property
    def local_url(self) -> str:
        """Return a URL for its own host."""
        return self._url("127.0.0.1")

    def _url(self, address: str) -> str:
        return f"postgres://{USER}:{self.password}@{address}:{PORT}/{DATABASE}"

    def query(self, statement: str) -> list[tuple[Any, ...]]:
        """Run a statement on its host, where it answers also while the host is cut off."""
        with (
            self.host.entered(),
            psycopg.connect(self.local_url, autocommit=True, connect_timeout=3) as connection,
        ):
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def accepts_writes(self) -> bool:
        """Return whether it is a primary. A server that does not answer is none."""
        with suppress(psycopg.OperationalError):
            return self.query("SELECT pg_is_in_recovery()") == [(False,)]
        return False

    def ask(self, path: str) -> httpx.Response | None:
        """Return the answer of its Patroni to a GET; None if the host does not answer."""
        try:
            return httpx.get(f"{self.api}{path}", timeout=2, trust_env=False)
        except httpx.HTTPError:
            return None

    @property
    def api(self) -> str:
        return f"http://{self.host.address}:{API_PORT}"

    # --- the stop of its promotion ----------------------------------------------------------------

    @property
    def hold(self) -> Path:
        """Return the file that stops its promotion as long as it exists."""
        return self.folder / "hold-promotion"

    @property
    def held(self) -> Path:
        """Return the file that it writes when its promotion is stopped."""
        return self.folder / "held-promotion"

    def _before_promotion(self) -> str:
        """Return Patroni's `pre_promote`: the lease is held, and all received WAL is there."""
        wait = f": >{self.held}; while test -e {self.hold}; do sleep 0.05; done"
        return f"/bin/sh -c 'if test -e {self.hold}; then {wait}; fi'"

    # --- configuration ----------------------------------------------------------------------------

    def configuration(self, binaries: Path, *, etcd: Sequence[str], network: str) -> dict[str, Any]:
        """Return the configuration for Patroni, which reads YAML, of which JSON is a part.

        Args:
            binaries: the folder of PostgreSQL's programs.
            etcd: host and port of each member of etcd.
            network: the addresses that may connect.
        """
        api, address = f"{self.host.address}:{API_PORT}", self.host.address
        return {
            "scope": SCOPE,
            "name": self.host.name,
            "restapi": {"listen": api, "connect_address": api},
            "etcd3": {"hosts": list(etcd)},
            "bootstrap": {"dcs": _DYNAMIC, "initdb": _INITDB},
            "postgresql": {
                "listen": f"127.0.0.1,{address}:{PORT}",
                "connect_address": f"{address}:{PORT}",
                "data_dir": str(self.data),
                "bin_dir": str(binaries),
                "pgpass": str(self.folder / "pgpass"),
                "authentication": self._users(),
                "pg_hba": _rules(network),
                "basebackup": [{"checkpoint": "fast"}],
                "pre_promote": self._before_promotion(),
            },
        }

    def _users(self) -> dict[str, Any]:
        names = {"superuser": USER, "replication": REPLICATOR}
        return {one: {"username": name, "password": self.password} for one, name in names.items()}


def _rules(network: str) -> list[str]:
    return [
        f"host {database} all {one} scram-sha-256"
        for database in ("all", "replication")
        for one in ("127.0.0.1/32", network)
    ]
