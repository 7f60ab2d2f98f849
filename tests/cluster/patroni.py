"""PostgreSQL on two hosts under Patroni, which promotes a standby and takes a lost primary back.

The leader holds a lease in etcd. A primary that cannot renew it stops taking writes, and another
member gets the lease when it expires: https://patroni.readthedocs.io/.
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx
import psycopg

from shop import postgres
from tests.cluster import patroni_programs as programs
from tests.cluster.etcd import EtcdGroup
from tests.cluster.network import Host, Network
from tests.cluster.patroni_member import DATABASE, PORT, SCOPE, USER, Member

#: Seconds. Generous: reaching it is a failure of the laboratory.
CEILING = 900.0


class PatroniCluster:
    """Two members, and the operations of their operator.

    Attributes:
        members: the first one is the primary at first.
    """

    def __init__(
        self, network: Network, hosts: Sequence[Host], etcd: EtcdGroup, folder: Path
    ) -> None:
        password = secrets.token_urlsafe(24)
        self.members = [Member(host, folder / f"{host.name}-patroni", password) for host in hosts]
        self._range, self._etcd = network.range, etcd
        self._control = folder / "patronictl.json"

    @property
    def url(self) -> str:
        """Return the DATABASE_URL of processes: it leads to the member that accepts writes."""
        return self.url_with("target_session_attrs=read-write&connect_timeout=3")

    def url_with(self, options: str) -> str:
        """Return a URL with all members, and options of libpq as the query of a URL."""
        user = f"{USER}:{self.members[0].password}"
        places = ",".join(f"{member.host.address}:{PORT}" for member in self.members)
        return f"postgres://{user}@{places}/{DATABASE}?{options}"

    # --- start ------------------------------------------------------------------------------------

    def start(self) -> None:
        """Create the database on the first member, and let the others copy it."""
        self._control.write_text(
            json.dumps({"scope": SCOPE, "etcd3": {"hosts": self._etcd.places}})
        )
        wait_until(self._etcd.answers, "each member of etcd knows a leader")
        first, *others = self.members
        self.start_member(first)
        wait_until(lambda: self.leader() is first, "the first member is the leader")
        self._create_database(first)
        for member in others:
            self.start_member(member)
        self.wait_until_replicated()

    def start_member(self, member: Member) -> None:
        """Start Patroni on a host, with the data that is there."""
        if not member.folder.exists():
            self._prepare(member)
        with (member.folder / "patroni.log").open("ab") as log:
            member.host.start(
                programs.patroni(member.folder / "patroni.json"),
                cwd=member.folder,
                env=programs.variables(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def _prepare(self, member: Member) -> None:
        member.folder.mkdir(parents=True)
        binaries = postgres._runnable_binaries(member.folder)
        path = member.folder / "patroni.json"
        path.write_text(
            json.dumps(member.configuration(binaries, etcd=self._etcd.places, network=self._range))
        )
        for one in (member.folder, path):
            os.chown(one, *postgres._nobody())
        path.chmod(0o600)

    def _create_database(self, member: Member) -> None:
        url = f"{member.url.rpartition('/')[0]}/postgres"
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {DATABASE}".encode())

    # --- for an operator --------------------------------------------------------------------------

    def leader(self) -> Member | None:
        """Return the member that holds the lease and accepts writes."""
        for member in self.members:
            answer = member.ask("/primary")
            if answer is not None and answer.status_code == 200:
                return member
        return None

    def other_than(self, member: Member) -> Member:
        return next(one for one in self.members if one is not member)

    def is_replicated(self, *, synchronously: bool = True) -> bool:
        """Return whether a standby streams from the leader, and may replace it at once."""
        wanted = "sync_standby" if synchronously else "replica"
        leader = self.leader()
        answer = leader and leader.ask("/cluster")
        if not answer or answer.status_code != 200:
            return False
        found = {one["role"]: one["state"] for one in answer.json()["members"]}
        return found == {"leader": "running", wanted: "streaming"}

    def wait_until_replicated(self, *, synchronously: bool = True) -> None:
        kind = "synchronous" if synchronously else "asynchronous"
        wait_until(lambda: self.is_replicated(synchronously=synchronously), f"a standby is {kind}")

    def replicate(self, *, synchronously: bool) -> None:
        """Let each commit wait for the standby, or not: Patroni's `synchronous_mode`."""
        leader = self.leader()
        assert leader is not None, "No member is the leader."
        change = {"synchronous_mode": synchronously}
        answer = httpx.patch(f"{leader.api}/config", json=change, timeout=10, trust_env=False)
        answer.raise_for_status()
        self.wait_until_replicated(synchronously=synchronously)
        waits = "SELECT current_setting('synchronous_standby_names') <> ''"
        wait_until(lambda: leader.query(waits) == [(synchronously,)], "the new mode is in force")

    def restart(self, host: Host) -> None:
        """Connect a killed host, and start its Patroni or etcd."""
        host.mend()
        for member in self.members:
            if member.host is host:
                return self.start_member(member)
        return self._etcd.restart(host)

    def try_to_switch_over(self) -> bool:
        """Let leader and standby change places: `patronictl switchover`.

        Returns False, with the old leader in place, if the candidate's Patroni did not answer in
        two seconds.
        """
        leader = self.leader()
        assert leader is not None, "No member is the leader."
        names = ["--leader", leader.host.name, "--candidate", self.other_than(leader).host.name]
        said = programs.patronictl(self._control, ["switchover", SCOPE, *names, "--force"])
        return "Successfully switched over" in said


@contextmanager
def patroni_cluster(
    network: Network, hosts: Sequence[Host], of_etcd: Sequence[Host], folder: Path
) -> Iterator[PatroniCluster]:
    """Yield a cluster that runs; its hosts are killed afterwards.

    Args:
        network: its hosts may connect.
        hosts: of the members.
        of_etcd: the three hosts of etcd.
        folder: for the data of all; every user may enter it.

    Raises:
        NoPatroni: a program is missing.
    """
    programs.require_system_programs()
    programs.packages()
    etcd = EtcdGroup(of_etcd, folder / "etcd")
    cluster = PatroniCluster(network, hosts, etcd, folder)
    try:
        etcd.start()
        cluster.start()
        yield cluster
    finally:
        for host in (*hosts, *of_etcd):
            host.kill()


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Wait until a condition holds that asks members."""
    end = time.monotonic() + CEILING
    while not condition():
        assert time.monotonic() < end, f"Never came: {what}"
        time.sleep(0.1)
