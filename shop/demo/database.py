"""The demo's own database: a file in its folder, or a new one on DATABASE_URL's server."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

from outbox.lost_hosts import postgresql_options


class DatabaseUnavailable(Exception):
    """The server of DATABASE_URL provides no database; the text is the reason."""


@contextmanager
def own_database(environment: Mapping[str, str], folder: Path, *, keeps: bool) -> Iterator[str]:
    """Yield the DATABASE_URL of an empty database, which is dropped afterwards.

    Raises:
        DatabaseUnavailable: the server cannot be reached, or its user may not create one.
    """
    server = environment.get("DATABASE_URL", "")
    if not server.startswith("postgres"):
        yield f"sqlite:///{folder / 'db.sqlite3'}"  # deleted with the folder
        return
    name = f"shop_demo_{uuid4().hex[:12]}"
    _execute(server, f'CREATE DATABASE "{name}"')
    try:
        yield urlunsplit(urlsplit(server)._replace(path=f"/{name}"))
    finally:
        if keeps:
            sys.stderr.write(f"The database {name} is kept on the server of DATABASE_URL.\n")
        else:
            _execute(server, f'DROP DATABASE "{name}" WITH (FORCE)')


def _execute(server: str, statement: str) -> None:
    import psycopg  # needed for PostgreSQL only

    try:
        options = postgresql_options(several_hosts=True)  # also for one: it creates a database
        with psycopg.connect(server, autocommit=True, **options) as connection:
            connection.execute(statement.encode())
    except psycopg.Error as error:
        reason = str(error).strip().splitlines()[0]
        message = f"Cannot create a database for the demo: {reason}. Check or unset DATABASE_URL."
        raise DatabaseUnavailable(message) from error
