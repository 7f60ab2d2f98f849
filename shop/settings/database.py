"""The database: SQLite by default, PostgreSQL in production."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

from django.core.exceptions import ImproperlyConfigured

from outbox.lost_hosts import postgresql_options
from shared.private_files import close_to_others, create_database_file

from .environment import LOCAL_DIR, env, readable


def _connect_to(database: dict[str, Any]) -> None:
    """Let a lost host be noticed soon, and connect to the one of several that accepts writes.

    Options of the URL, such as `?connect_timeout=10`, have priority.
    """
    hosts = str(database["HOST"]).split(",")
    ports = str(database["PORT"]).split(",")
    if database["PORT"] and len(ports) != len(hosts):
        raise ImproperlyConfigured(
            f"DATABASE_URL has {len(hosts)} hosts, and not as many ports. Give each host its port: "
            "postgres://user:password@one:5432,two:5432/name."
        )
    database["HOST"] = ",".join(host.strip("[]") for host in hosts)  # libpq takes no brackets
    ours = postgresql_options(several_hosts=len(hosts) > 1)
    database["OPTIONS"] = {**ours, **database["OPTIONS"]}


# DATABASE_URL: postgres://user:password@host:5432/name in production; SQLite by default. Several
# hosts, a primary and its standbys, are separated by commas: @one:5432,two:5432/name.
DATABASES: dict[str, dict[str, Any]] = {}
with readable("DATABASE_URL"):
    DATABASES["default"] = env.db_url(
        "DATABASE_URL", default=f"sqlite:///{LOCAL_DIR / 'db.sqlite3'}"
    )
_database = DATABASES["default"]
_options = _database.setdefault("OPTIONS", {})
if _database["ENGINE"] == "django.db.backends.sqlite3":
    LOCAL_DIR.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not str(_database["NAME"]).startswith((":memory:", "file:")):
        with suppress(OSError):  # Django's own error is clearer
            create_database_file(Path(_database["NAME"]))
            if Path(_database["NAME"]).parent == LOCAL_DIR:  # an earlier release left it open
                close_to_others(Path(_database["NAME"]))
    # IMMEDIATE takes the write lock at BEGIN, where SQLite waits for it. A deferred transaction
    # that becomes a writer fails at once. FULL: a commit survives a power cut.
    _options.setdefault("transaction_mode", "IMMEDIATE")
    _options.setdefault("timeout", 30)
    _options.setdefault("init_command", "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;")
    # A file, as in production: tests with threads and processes need more than one connection.
    _database["TEST"] = {"NAME": str(LOCAL_DIR / "test.sqlite3")}
else:
    # DATABASE_MAX_AGE: seconds that a web process keeps its connection.
    _database["CONN_MAX_AGE"] = env.int("DATABASE_MAX_AGE", default=60)
    _database["CONN_HEALTH_CHECKS"] = True
    _connect_to(_database)
    # BEHIND_PGBOUNCER: in transaction mode it lends a connection for one transaction, so a
    # server-side cursor must not outlive it. Prepared statements are off anyway, and no lock is
    # held for longer.
    _database["DISABLE_SERVER_SIDE_CURSORS"] = env.bool("BEHIND_PGBOUNCER", default=False)

DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
