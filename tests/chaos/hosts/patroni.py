"""PostgreSQL under Patroni in a run of chaos: its failovers, and what an asynchronous one loses."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psycopg

from shop import postgres
from tests.chaos.hosts.databases import PATIENCE
from tests.chaos.hosts.loss import Rows, read_rows
from tests.cluster.network import Host, Network
from tests.cluster.patroni import PatroniCluster, patroni_cluster, wait_until
from tests.cluster.patroni_member import Member

_REPLAYED = "SELECT pg_last_wal_receive_lsn()::text, pg_last_wal_replay_lsn()::text"


class PatroniDatabases:
    """Both members, as the faults of a run need them.

    Attributes:
        losses: what each failover to an asynchronous standby has lost.
        promotions: seconds from each loss of a primary to the first possible write.
        overlaps: failovers at whose promotion the lost primary still took writes.
    """

    def __init__(self, cluster: PatroniCluster) -> None:
        self._cluster = cluster
        self._last = cluster.members[0]
        self.losses: list[Rows] = []
        self.promotions: list[float] = []
        self.overlaps = 0

    @property
    def url(self) -> str:
        """Return a URL that leads to the one that accepts writes."""
        return self._cluster.url

    @property
    def patient_url(self) -> str:
        """Return the same for connections of the laboratory itself."""
        options = "&".join(f"{name}={value}" for name, value in PATIENCE.items())
        return self._cluster.url_with(f"target_session_attrs=read-write&{options}")

    @property
    def primary(self) -> Member:
        """Return the leader, or the last one while there is none."""
        self._last = self._cluster.leader() or self._last
        return self._last

    @property
    def standby(self) -> Member:
        return self._cluster.other_than(self.primary)

    def replicate(self, *, synchronously: bool) -> None:
        """Let each commit wait for the standby, or not."""
        self._cluster.replicate(synchronously=synchronously)

    def stop_replication(self) -> None:
        """Lose what the primary sends to its standby: what it commits now is only there."""
        primary = self.primary
        primary.host.cut_to(self._cluster.other_than(primary).host)

    def ready_primary(self) -> Member:
        """Return the primary, as soon as its standby may replace it without a loss."""
        self._cluster.wait_until_replicated()
        return self.primary

    def switch_over(self, begin: Callable[[], None]) -> None:
        """Let both change places, and wait for the first possible write.

        Args:
            begin: is called before each attempt. On a busy machine Patroni refuses some.
        """
        lost, switched = self.primary, False
        while not switched:
            begin()
            began = time.monotonic()
            switched = self._cluster.try_to_switch_over()
        self._promoted(lost, began)

    def lose(self, lost: Member, fault: Callable[[], object]) -> None:
        """Lose a primary by a fault, and wait until Patroni has promoted the other member."""
        began = time.monotonic()
        fault()
        self._promoted(lost, began)
        self.overlaps += lost.accepts_writes()

    def _promoted(self, lost: Member, began: float) -> None:
        other = self._cluster.other_than(lost)
        wait_until(other.accepts_writes, f"{other.host.name} is promoted")
        self.promotions.append(time.monotonic() - began)

    def lose_with_commits(self, lost: Member) -> None:
        """Kill an asynchronous primary. Record what it has committed and the standby has not.

        Patroni calls `pre_promote` before it promotes. The standby's rows are read at that moment.
        """
        other = self._cluster.other_than(lost)
        with _held_promotion(other):
            began = time.monotonic()
            lost.host.kill()
            wait_until(other.held.exists, f"{other.host.name} is about to be promoted")
            before = _last_rows(other)
        self._promoted(lost, began)
        with _running_alone(lost):
            self.losses.append(_rows(lost) - before)

    def take_back(self, lost: Member, *, synchronously: bool = True) -> None:
        """Connect a lost host. Patroni lets its server follow the new primary, by `pg_rewind`.

        Args:
            lost: the member.
            synchronously: the mode until now; afterwards replication is synchronous.
        """
        if lost.host.number_of_processes():
            lost.host.mend()
        else:
            self.restart(lost.host)
        self._cluster.wait_until_replicated(synchronously=synchronously)
        if not synchronously:
            self.replicate(synchronously=True)

    def restart(self, host: Host) -> None:
        """Connect a killed host, and start its Patroni or etcd."""
        self._cluster.restart(host)


@contextmanager
def patroni_databases(
    network: Network, hosts: Sequence[Host], of_etcd: Sequence[Host], folder: Path
) -> Iterator[PatroniDatabases]:
    """Yield a primary with a synchronous standby; their hosts are killed afterwards."""
    with patroni_cluster(network, hosts, of_etcd, folder) as cluster:
        yield PatroniDatabases(cluster)


@contextmanager
def _held_promotion(member: Member) -> Iterator[None]:
    """Let Patroni wait before it promotes the member, until the end of the block."""
    member.held.unlink(missing_ok=True)
    member.hold.touch()
    try:
        yield
    finally:
        member.hold.unlink()


def _last_rows(member: Member) -> Rows:
    """Return what a standby has, when it has replayed all that it had received."""
    known: object = None
    while known != (latest := member.query(_REPLAYED)):
        known = latest
        time.sleep(0.3)
    return _rows(member)


def _rows(member: Member) -> Rows:
    with member.host.entered(), psycopg.connect(member.local_url) as connection:
        return read_rows(connection)


@contextmanager
def _running_alone(member: Member) -> Iterator[None]:
    """Run the server of a killed host without Patroni. Only the laboratory reaches it."""
    _control(member, "start", "-w", "-o", "-c listen_addresses=127.0.0.1")
    try:
        yield
    finally:
        _control(member, "stop", "-w", "-m", "fast")


def _control(member: Member, *arguments: str) -> None:
    log = str(member.folder / "alone.log")
    command = [str(member.binaries / "pg_ctl"), "-D", str(member.data), "-l", log, *arguments]
    with member.host.entered():
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            **postgres._unprivileged(member.folder),
        )
    assert done.returncode == 0, f"pg_ctl {arguments[0]}: {done.stdout}"
