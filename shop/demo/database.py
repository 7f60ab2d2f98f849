"""The demo's own database: a file in its folder, or a new one on DATABASE_URL's server."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

from outbox.lost_hosts import postgresql_options

#: Printed before the commands that inspect a kept folder; see `program.py`. The address is not
#: printed, since it has a password.
KEPT = """\
The database {name} is kept on the server of DATABASE_URL. Before the commands below, export
DATABASE_URL with {name} as the name of the database. Otherwise they use another database.
"""


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
    _create(server, name)
    try:
        yield urlunsplit(urlsplit(server)._replace(path=f"/{name}"))
    finally:
        if keeps:
            sys.stderr.write(KEPT.format(name=name))
        else:
            _drop(server, name)


def _create(server: str, name: str) -> None:
    try:
        _execute(server, f'CREATE DATABASE "{name}"')
    except DatabaseUnavailable as error:
        message = f"Cannot create a database for the demo: {error}. Check or unset DATABASE_URL."
        raise DatabaseUnavailable(message) from error


def _drop(server: str, name: str) -> None:
    """Drop the database. If that fails, print its name: the result of the demo stays valid."""
    try:
        _execute(server, f'DROP DATABASE "{name}" WITH (FORCE)')
    except DatabaseUnavailable as error:
        sys.stderr.write(f"Cannot drop the database {name} of the demo: {error}. Drop it later.\n")


def _execute(server: str, statement: str) -> None:
    import psycopg  # needed for PostgreSQL only

    try:
        options = postgresql_options(several_hosts=True)  # also for one: it creates a database
        with psycopg.connect(server, autocommit=True, **options) as connection:
            connection.execute(statement.encode())
    except psycopg.Error as error:
        raise DatabaseUnavailable(str(error).strip().splitlines()[0]) from error
