"""A PostgreSQL that hosts of a network reach, and a primary with its standby on two hosts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import psycopg

from tests.cluster.network import Host, Network
from tests.databases import own_postgresql
from tests.standby import Standby, standby_of


def allow(url: str, network: Network) -> None:
    """Let hosts of a network connect to a server, also for replication."""
    with psycopg.connect(url, autocommit=True) as connection:
        row = connection.execute("SHOW hba_file").fetchone()
        assert row is not None
        with Path(row[0]).open("a") as rules:
            for databases in ("all", "replication"):
                rules.write(f"host {databases} all {network.range} scram-sha-256\n")
        connection.execute("SELECT pg_reload_conf()")


@dataclass(frozen=True)
class Pair:
    """A primary and its asynchronous standby, on hosts of their own.

    Attributes:
        primary_url: leads to the primary's host only.
        url: leads to the one that accepts writes.
    """

    primary_url: str
    standby: Standby
    primary_host: Host

    @property
    def url(self) -> str:
        first, second = urlsplit(self.primary_url), urlsplit(self.standby.url)
        place = f"{first.netloc},{second.hostname}:{second.port}"
        return f"postgres://{place}{first.path}?target_session_attrs=read-write&connect_timeout=3"

    def lose_primary(self) -> None:
        """Take the primary's host away, and promote the standby."""
        self.primary_host.kill()
        self.standby.promote()


@contextmanager
def postgresql_pair(network: Network, primary: Host, standby: Host) -> Iterator[Pair]:
    """Yield a pair that runs; it is stopped afterwards."""
    with ExitStack() as cleanup:
        settings = {"listen_addresses": f"127.0.0.1,{primary.address}"}
        server = cleanup.enter_context(own_postgresql(settings))
        with primary.entered():
            local = server.start()
            allow(local, network)
        url = local.replace("127.0.0.1", primary.address)
        with standby.entered():
            copy = cleanup.enter_context(standby_of(url, address=standby.address))
        yield Pair(url, copy, primary)
