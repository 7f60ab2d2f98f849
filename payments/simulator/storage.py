"""The bank's SQLite file, and the table that makes a repeated request harmless."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from shared.private_files import close_to_others, create_database_file

from .answers import Answer, Refusal

SCHEMA = """
CREATE TABLE IF NOT EXISTS authorizations (
    number INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    reference TEXT NOT NULL,
    amount INTEGER NOT NULL CHECK (amount > 0),
    currency TEXT NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('authorized', 'declined', 'captured', 'voided')),
    decline_code TEXT,
    created TEXT NOT NULL,
    payment_method TEXT NOT NULL DEFAULT ''
);
CREATE INDEX IF NOT EXISTS authorizations_by_reference ON authorizations (reference);
CREATE TABLE IF NOT EXISTS captures (
    id TEXT PRIMARY KEY,
    authorization_id TEXT NOT NULL UNIQUE REFERENCES authorizations (id),
    amount INTEGER NOT NULL CHECK (amount > 0),
    created TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS voids (
    id TEXT PRIMARY KEY,
    authorization_id TEXT NOT NULL UNIQUE REFERENCES authorizations (id),
    created TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS refunds (
    id TEXT PRIMARY KEY,
    capture_id TEXT NOT NULL REFERENCES captures (id),
    amount INTEGER NOT NULL CHECK (amount > 0),
    created TEXT NOT NULL,
    idempotency_key TEXT NOT NULL DEFAULT ''
);
CREATE INDEX IF NOT EXISTS refunds_by_capture ON refunds (capture_id);
CREATE TABLE IF NOT EXISTS answers (
    idempotency_key TEXT PRIMARY KEY,
    fingerprint TEXT NOT NULL,
    status INTEGER NOT NULL,
    body TEXT NOT NULL,
    created TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS fault_uses (
    idempotency_key TEXT PRIMARY KEY,
    uses INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS notices (
    number INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    body TEXT NOT NULL,
    due_at TEXT NOT NULL,
    failures INTEGER NOT NULL DEFAULT 0,
    is_done INTEGER NOT NULL DEFAULT FALSE
);
CREATE INDEX IF NOT EXISTS notices_by_due ON notices (due_at) WHERE NOT is_done;
"""


def prepare(file: Path) -> None:
    """Create the folder, the file and the tables if they are missing."""
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    create_database_file(file)
    close_to_others(file)
    with closing(_connect(file)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.executescript(SCHEMA)


@contextmanager
def reading(file: Path) -> Iterator[sqlite3.Connection]:
    """Open a read transaction, which shows one snapshot."""
    with closing(_connect(file)) as connection:
        connection.execute("BEGIN")
        yield connection


@contextmanager
def writing(file: Path) -> Iterator[sqlite3.Connection]:
    """Open the only write transaction; commit to disk at the end, roll back on an exception."""
    with closing(_connect(file)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        with connection:
            yield connection


def _connect(file: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(file, timeout=30, isolation_level=None)
    connection.row_factory = sqlite3.Row
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")
    return connection


def remembered(
    connection: sqlite3.Connection, key: str, fingerprint: str, *, key_life: timedelta
) -> Answer | None:
    """Return the answer stored under the key. Refuse if the key belongs to another request.

    An expired key counts as new.
    """
    row = connection.execute(
        "SELECT * FROM answers WHERE idempotency_key = ? AND created > ?",
        [key, at(datetime.now(UTC) - key_life)],
    ).fetchone()
    if row is None:
        return None
    if row["fingerprint"] != fingerprint:
        message = (
            "This Idempotency-Key was used for another request. Use a new key for a new request."
        )
        raise Refusal(422, "idempotency_key_reused", message)
    return Answer(row["status"], json.loads(row["body"]), {"Idempotent-Replayed": "true"})


def answer_once(
    connection: sqlite3.Connection,
    key: str,
    fingerprint: str,
    work: Callable[[], Answer],
    *,
    key_life: timedelta,
) -> Answer:
    """Do the work and store its answer under the key, in one transaction; or return the stored one.

    `BEGIN IMMEDIATE` runs one writer at a time, so a concurrent duplicate waits for the commit of
    the first one and finds its answer.
    """
    if answer := remembered(connection, key, fingerprint, key_life=key_life):
        return answer
    answer = work()
    connection.execute(
        "INSERT OR REPLACE INTO answers VALUES (?, ?, ?, ?, ?)",
        [key, fingerprint, answer.status, json.dumps(answer.body), now()],
    )
    return answer


def now() -> str:
    return at(datetime.now(UTC))


def at(moment: datetime) -> str:
    return moment.isoformat(timespec="microseconds")  # a fixed length, so that they sort
