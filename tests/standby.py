"""A PostgreSQL standby of a server that a test runs: replication, its end, and promotion."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import psycopg

from shop import postgres
from shop.postgres import EmbeddedPostgres

_CEILING = 180.0
_LOOPBACK = "127.0.0.1"


class Standby:
    """An asynchronous standby, streaming from its primary.

    Args:
        url: its own address; the credentials are those of the primary.
    """

    def __init__(self, url: str) -> None:
        self.url = url

    def wait_for(self, statement: str, expected: object) -> None:
        """Wait until a query on the standby returns this value."""
        end = time.monotonic() + _CEILING
        while (found := self._value(statement)) != expected:
            assert time.monotonic() < end, f"{statement} is {found}, not {expected}."
            time.sleep(0.05)

    def stop_receiving(self) -> None:
        """End replication, as a cut network does: what the primary commits now is not here."""
        self._execute("ALTER SYSTEM SET primary_conninfo = ''")
        self._execute("SELECT pg_reload_conf()")
        self.wait_for("SELECT count(*) FROM pg_stat_wal_receiver", 0)

    def promote(self) -> None:
        """Make it a primary."""
        self._execute("SELECT pg_promote()")
        self.wait_for("SELECT pg_is_in_recovery()", False)

    def _value(self, statement: str) -> object:
        with psycopg.connect(self.url, autocommit=True) as connection:
            row = connection.execute(statement.encode()).fetchone()
        return row and row[0]

    def _execute(self, statement: str) -> None:
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(statement.encode())


@contextmanager
def standby_of(primary_url: str, *, address: str = _LOOPBACK) -> Iterator[Standby]:
    """Yield a standby that has all that its primary has committed; stop it afterwards.

    It listens on loopback and on `address`, which is in its URL.
    """
    parent = Path(tempfile.mkdtemp(prefix="shop-standby-"))
    parent.chmod(0o711)  # the server does not run as root
    folder = parent / "server"
    copy_of(primary_url, folder)
    server = EmbeddedPostgres(folder, settings={"listen_addresses": f"{_LOOPBACK},{address}"})
    try:
        url = server.start().replace(_LOOPBACK, address)
        standby = Standby(f"{url.rpartition('/')[0]}{urlsplit(primary_url).path}")
        standby.wait_for("SELECT count(*) FROM pg_stat_wal_receiver", 1)
        yield standby
    finally:
        server.stop()
        shutil.rmtree(parent, ignore_errors=True)


def copy_of(primary_url: str, folder: Path) -> None:
    """Take a base backup, with the settings that make its copy a standby."""
    server = EmbeddedPostgres(folder)
    server._prepare_folder()
    (folder / "password").write_text(urlsplit(primary_url).password or "")
    binaries = postgres._runnable_binaries(folder)
    arguments = postgres._unprivileged(folder)
    if os.geteuid() == 0:
        os.chown(folder / "password", arguments["user"], arguments["group"])
    subprocess.run(
        [
            binaries / "pg_basebackup",
            f"--dbname={primary_url}",
            f"--pgdata={folder / 'data'}",
            "--write-recovery-conf",
            "--checkpoint=fast",
        ],
        check=True,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        **arguments,
    )
