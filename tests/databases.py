"""Real databases for tests: the one under test, and fresh ones for tests with processes.

The suite runs against one kind at a time, named by TEST_DATABASE: "sqlite" (the default) or
"postgresql". PostgreSQL is the server of DATABASE_URL, else one started from the wheel.
"""

from __future__ import annotations

import atexit
import functools
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import pytest

from shop.postgres import EmbeddedPostgres

__all__ = ["EmbeddedPostgres", "fresh_database", "kind_under_test", "postgresql_url"]

KINDS = ("sqlite", "postgresql")

#: A file system of Linux without a disk. A new database, of a thousand files, costs less there.
MEMORY = "/dev/shm"
#: Bytes. Each of several workers of pytest has a server, which uses up to half a gigabyte.
ROOM = 4 * 1024**3


def kind_under_test() -> str:
    """Return "sqlite" or "postgresql"."""
    kind = os.environ.get("TEST_DATABASE", "sqlite")
    if kind not in KINDS:
        raise pytest.UsageError(f"TEST_DATABASE is {kind!r}; it must be {' or '.join(KINDS)}.")
    return kind


@functools.cache
def postgresql_url() -> str:
    """Return the URL of the given server, else of one that lives until this process ends."""
    given = os.environ.get("DATABASE_URL", "")
    if given.startswith("postgres"):
        return given
    # Nobody cuts the power of a test: without fsync, emptying all tables takes a fifth of the time.
    settings = {"fsync": "off", "full_page_writes": "off", "max_wal_size": "256MB"}
    with pytest.MonkeyPatch.context() as patch:
        if _has_room_in_memory():
            patch.setattr(tempfile, "tempdir", MEMORY)
        server = EmbeddedPostgres(settings=settings)
    atexit.register(server.stop)
    return server.start()


def _has_room_in_memory() -> bool:
    """Whether its server can run in memory; programs, which it may need there, too."""
    try:
        found = os.statvfs(MEMORY)
    except OSError:
        return False
    is_usable = os.access(MEMORY, os.W_OK) and not found.f_flag & os.ST_NOEXEC
    return is_usable and found.f_bavail * found.f_frsize >= ROOM


@contextmanager
def fresh_database(kind: str | None = None, *, template: str = "") -> Iterator[str]:
    """Yield the DATABASE_URL of an empty database (no migrations yet), dropped afterwards.

    Without a kind it is of the kind under test. On PostgreSQL it can be a copy of a database to
    which nobody is connected.
    """
    if (kind or kind_under_test()) == "sqlite":
        with tempfile.TemporaryDirectory(prefix="shop-sqlite-") as folder:
            yield f"sqlite:///{Path(folder) / 'db.sqlite3'}"
        return
    name = f"fresh_{uuid4().hex[:12]}"
    _execute(f'CREATE DATABASE "{name}"' + (f' TEMPLATE "{template}"' if template else ""))
    try:
        yield urlunsplit(urlsplit(postgresql_url())._replace(path=f"/{name}"))
    finally:
        _execute(f'DROP DATABASE "{name}" WITH (FORCE)')


@contextmanager
def own_postgresql(settings: Mapping[str, object] | None = None) -> Iterator[EmbeddedPostgres]:
    """Yield a PostgreSQL server that the test may stop and start; its data stays meanwhile."""
    folder = Path(tempfile.mkdtemp(prefix="shop-own-postgres-"))
    folder.chmod(0o711)  # the server does not run as root
    server = EmbeddedPostgres(folder / "server", settings=settings)
    try:
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


def _execute(statement: str) -> None:
    import psycopg  # only where PostgreSQL is asked for

    # As Django does for a test database: the one of the URL may not exist (`tests/mutants`).
    url = urlunsplit(urlsplit(postgresql_url())._replace(path="/postgres"))
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(statement.encode())
