"""A host loses its network while it holds locks in the database. The others continue.

The host is a network namespace that is cut off. A killed process would not do: its kernel closes
the connection, and PostgreSQL knows at once.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest

from tests.chaos.stack import Stack
from tests.databases import own_postgresql
from tests.hosts import Host, another_host

pytestmark = [pytest.mark.postgresql, pytest.mark.processes, pytest.mark.timeout(300)]

SETTINGS = "tests.chaos.settings"


class Site:
    """A stack whose database another host reaches, too."""

    def __init__(self, stack: Stack, host: Host) -> None:
        self.stack = stack
        self.host = host

    def lose_host_in(self, where: str) -> None:
        """Start a process on the other host, and cut it off when it holds its locks."""
        at = urlsplit(self.stack.database_url)
        user = at.netloc.rpartition("@")[0]
        url = urlunsplit(at._replace(netloc=f"{user}@{self.host.address}:{at.port}"))
        log = self.stack.folder / "lost.log"
        command = [sys.executable, "-m", "tests.chaos.lost_host", where]
        environment = {**self.stack.environment, "DATABASE_URL": url}
        process = self.host.start(command, environment=environment, log=log)
        self.stack.wait_until(lambda: "holding" in log.read_text(), "the other host holds locks")
        self.host.cut()
        os.killpg(process.pid, signal.SIGKILL)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with ExitStack() as cleanup:
        host = cleanup.enter_context(another_host())
        server = cleanup.enter_context(
            own_postgresql({"listen_addresses": f"127.0.0.1,{host.address}"})
        )
        url = server.start()
        _allow(url, host.network)
        stack = Stack(folder=tmp_path, database_url=url, settings=SETTINGS)
        cleanup.callback(stack.stop_all)
        stack.start_broker()
        stack.manage("migrate", "-v0")
        yield Site(stack, host)


def _allow(url: str, network: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        row = connection.execute("SHOW hba_file").fetchone()
        assert row is not None
        with Path(row[0]).open("a") as rules:
            rules.write(f"host all all {network} scram-sha-256\n")
        connection.execute("SELECT pg_reload_conf()")


def done(stack: Stack) -> int:
    return int(stack.value("SELECT count(*) FROM outbox_delivery WHERE state = 'done'"))


class TestAHostThatDisappears:
    def test_in_a_pass_stops_no_other_relay(self, site: Site):
        """Failed: all relays stood still, until TCP's keepalive notices after two hours."""
        site.stack.manage("strike", "5", "--of=Spared")
        site.lose_host_in("pass")

        site.stack.start_relay()
        site.stack.start_worker(queues="ground.slow")

        site.stack.wait_until(lambda: done(site.stack) == 5, "the other relay sends everything")

    def test_in_a_handler_leaves_its_delivery_to_another_worker(self, site: Site):
        site.stack.manage("strike", "1", "--of=Spared")
        site.lose_host_in("handler")

        site.stack.start_relay()
        site.stack.start_worker(queues="ground.slow")

        dead = "SELECT count(*) FROM outbox_delivery WHERE state = 'dead'"
        site.stack.wait_until(lambda: site.stack.value(dead) == 1, "its only attempt is used up")
        idle = (
            "SELECT count(*) FROM pg_stat_activity "
            "WHERE state = 'idle in transaction' AND client_addr IS NOT NULL"
        )
        site.stack.wait_until(lambda: site.stack.value(idle) == 0, "its transaction has ended")
