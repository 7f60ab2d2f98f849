"""The launcher of the embedded PostgreSQL, with real servers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pytest

from shop.postgres import EmbeddedPostgres, PostgresUnavailable
from tests.processes import eventually

# One kind of run is enough: the launcher knows nothing of the database under test.
pytestmark = pytest.mark.sqlite


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that PostgreSQL's own user can reach, where pytest's tmp_path is for us alone."""
    with tempfile.TemporaryDirectory(prefix="shop-kept-") as name:
        yield Path(name)


class TestAServer:
    def test_is_real_private_and_gone_after_the_block(self):
        server = EmbeddedPostgres()

        with server as url:
            with psycopg.connect(url) as connection:
                fsync = connection.execute("SHOW fsync").fetchone()
            with pytest.raises(psycopg.OperationalError, match="password"):
                psycopg.connect(url.replace("shop:", "shop:wrong"))
            process = psutil.Process(server.pid)
            users = process.uids()
            listening = {connection.laddr.ip for connection in process.net_connections()}

        assert fsync == ("on",)
        assert 0 not in users
        assert listening == {"127.0.0.1"}
        assert not process.is_running()
        assert not server._folder.exists()

    def test_keeps_the_data_of_a_folder(self, folder):
        with EmbeddedPostgres(folder) as url, psycopg.connect(url) as connection:
            connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")

        with EmbeddedPostgres(folder) as url, psycopg.connect(url) as connection:
            answer = connection.execute("SELECT answer FROM kept").fetchone()

        assert answer == (42,)


class TestItsOwner:
    @pytest.fixture
    def owner(self):
        command = [sys.executable, "-m", "shop.postgres"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            yield process
            process.kill()

    @pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
    def test_stops_the_server_however_it_ends(self, owner, sent):
        url = owner.stdout.readline().strip().removeprefix("DATABASE_URL=")
        with psycopg.connect(url) as connection:
            ((data,),) = connection.execute("SHOW data_directory").fetchall()
        servers = list(psutil.Process(owner.pid).children(recursive=True))

        owner.send_signal(sent)

        assert servers
        eventually(lambda: not any(alive(server) for server in servers), "the server ends")
        eventually(lambda: not os.path.exists(data), "its data is deleted")


def alive(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


class TestAMachineWithoutTheWheel:
    def test_gets_an_error_with_the_next_step(self, monkeypatch):
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)

        with pytest.raises(PostgresUnavailable, match="Set DATABASE_URL"):
            EmbeddedPostgres().start()
