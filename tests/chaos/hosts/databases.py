"""A PostgreSQL primary and its standby on two hosts, which change places by failovers.

The standby is synchronous, except before the loss of an asynchronous primary. A lost primary stays
cut off until it has become the standby of the new one by `pg_rewind`. So at no time two servers
accept writes of the hosts.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import psycopg

from shop import postgres
from shop.postgres import EmbeddedPostgres
from tests.chaos.hosts.loss import Rows, read_rows
from tests.cluster.network import Host, Network
from tests.cluster.postgresql import allow
from tests.standby import copy_of

#: Seconds. Generous: reaching it is a failure of the laboratory.
CEILING = 300.0
#: The processes are killed, the machine is not.
SETTINGS = {"fsync": "off", "wal_retrieve_retry_interval": "500ms"}
#: pg_rewind needs the WAL since the failover, and reads this while it recovers a lost primary.
KEEP_WAL = "ALTER SYSTEM SET wal_keep_size = '1GB'"
#: Of our own connections: a host that is cut off is noticed after five seconds.
PATIENCE = {
    "connect_timeout": 3,
    "keepalives_idle": 2,
    "keepalives_interval": 1,
    "keepalives_count": 3,
    "tcp_user_timeout": 5000,
}


@dataclass
class Server:
    """One of the two servers."""

    host: Host
    process: EmbeddedPostgres
    folder: Path
    local_url: str = ""

    @property
    def url(self) -> str:
        return self.local_url.replace("127.0.0.1", self.host.address)

    def start(self) -> None:
        with self.host.entered():
            self.local_url = self.process.start()

    def query(self, *statements: str) -> list[tuple[object, ...]]:
        """Run statements on its host, where it answers also while the host is cut off.

        Returns the rows of the last one.
        """
        with (
            self.host.entered(),
            psycopg.connect(self.local_url, autocommit=True) as connection,
        ):
            for statement in statements:
                cursor = connection.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []

    def rows(self) -> Rows:
        """Return what it has committed."""
        with self.host.entered(), psycopg.connect(self.local_url) as connection:
            return read_rows(connection)


class Databases:
    """Both servers, and the failovers between them.

    Attributes:
        primary: accepts writes, or did before its host was lost.
        standby: the other one.
        losses: what each failover to an asynchronous standby has lost.
        promotions: seconds from each loss of a primary to the first possible write.
    """

    def __init__(self, primary: Server, standby: Server) -> None:
        self.primary, self.standby = primary, standby
        self._places = (primary, standby)
        self.losses: list[Rows] = []
        self.promotions: list[float] = []

    @property
    def url(self) -> str:
        """Return a URL that leads to the one that accepts writes."""
        return self._url("target_session_attrs=read-write&connect_timeout=3")

    @property
    def patient_url(self) -> str:
        """Return the same for connections of the laboratory itself."""
        options = "&".join(f"{name}={value}" for name, value in PATIENCE.items())
        return self._url(f"target_session_attrs=read-write&{options}")

    def _url(self, options: str) -> str:
        first, second = (urlsplit(one.url) for one in self._places)
        place = f"{first.netloc},{second.hostname}:{second.port}"
        return f"postgres://{place}{first.path}?{options}"

    def replicate(self, *, synchronously: bool) -> None:
        """Let each commit wait for the standby, or not."""
        names = "*" if synchronously else ""
        self.primary.query(
            f"ALTER SYSTEM SET synchronous_standby_names = '{names}'", "SELECT pg_reload_conf()"
        )
        state = "sync" if synchronously else "async"
        statement = "SELECT sync_state FROM pg_stat_replication"
        _wait_until(lambda: self.primary.query(statement) == [(state,)], f"a standby is {state}")

    def stop_replication(self) -> None:
        """Let the standby receive nothing: what the primary commits now is only there."""
        self.standby.query("ALTER SYSTEM SET primary_conninfo = ''", "SELECT pg_reload_conf()")
        receivers = "SELECT count(*) FROM pg_stat_wal_receiver"
        _wait_until(lambda: self.standby.query(receivers) == [(0,)], "replication stops")

    def fail_over(self, *, killed: bool, is_loss_excused: bool) -> None:
        """Lose the primary's host, and promote the standby.

        Args:
            killed: the host's processes die, too. Otherwise they run, cut off.
            is_loss_excused: record what the primary has committed and the standby has not.
        """
        lost, began = self.primary, time.monotonic()
        (lost.host.kill if killed else lost.host.cut)()
        before = self._last_rows() if is_loss_excused else None
        self.standby.query(
            "ALTER SYSTEM RESET synchronous_standby_names",
            "SELECT pg_reload_conf()",
            "SELECT pg_promote()",
        )
        self.promotions.append(time.monotonic() - began)
        self.primary, self.standby = self.standby, lost
        if before is not None:
            if killed:
                lost.process.stop()
                lost.start()  # only the laboratory reaches it
            self.losses.append(lost.rows() - before)

    def _last_rows(self) -> Rows:
        """Return what the standby has, when it has replayed all that it had received."""
        position, known = "SELECT pg_last_wal_replay_lsn()::text", None
        while known != (latest := self.standby.query(position)):
            known = latest
            time.sleep(0.3)
        return self.standby.rows()

    def take_back(self) -> None:
        """Let the lost server follow the new primary: `pg_rewind`, then replication."""
        lost = self.standby
        # pg_rewind and each later recovery begin at the last checkpoint that both have. The one
        # after a promotion takes minutes, so in a long run no failover would ever wait for it.
        self.primary.query("CHECKPOINT")
        # It is not stopped: that waits for a standby that it cannot reach. pg_rewind recovers it.
        lost.host.kill()
        lost.process.stop()
        lost.host.mend()
        self._rewind(lost)
        lost.start()
        statement = "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'"
        _wait_until(lambda: self.primary.query(statement) == [(1,)], "the old primary follows")
        self.replicate(synchronously=True)

    def _rewind(self, server: Server) -> None:
        binaries = postgres._runnable_binaries(server.folder)
        done = subprocess.run(
            [
                binaries / "pg_rewind",
                f"--target-pgdata={server.folder / 'data'}",
                f"--source-server={self.primary.url}",
                "--write-recovery-conf",
            ],
            capture_output=True,
            text=True,
            check=False,
            **postgres._unprivileged(server.folder),
        )
        assert done.returncode == 0, f"pg_rewind: {done.stdout}{done.stderr}"


@contextmanager
def databases(network: Network, hosts: tuple[Host, Host], folder: Path) -> Iterator[Databases]:
    """Yield a primary with a synchronous standby; they are stopped afterwards.

    Args:
        network: its hosts may connect.
        hosts: of the primary and of the standby.
        folder: for the data of both; every user may enter it.
    """
    with ExitStack() as cleanup:
        primary, standby = (cleanup.enter_context(_server(host, folder)) for host in hosts)
        primary.start()
        with primary.host.entered():
            allow(primary.local_url, network)
        primary.query(KEEP_WAL, "SELECT pg_reload_conf()")
        copy_of(primary.url, standby.folder)
        standby.start()
        pair = Databases(primary, standby)
        pair.replicate(synchronously=True)
        yield pair


@contextmanager
def _server(host: Host, parent: Path) -> Iterator[Server]:
    folder = parent / f"{host.name}-postgresql"
    listen = {"listen_addresses": f"127.0.0.1,{host.address}"}
    process = EmbeddedPostgres(folder, settings={**SETTINGS, **listen})
    try:
        yield Server(host, process, folder)
    finally:
        host.kill()  # a primary that stops waits for its standby
        process.stop()


def _wait_until(condition: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + CEILING
    while not _holds(condition):
        assert time.monotonic() < end, f"Never came: {what}"
        time.sleep(0.05)


def _holds(condition: Callable[[], bool]) -> bool:
    try:
        return condition()
    except psycopg.OperationalError:
        return False
