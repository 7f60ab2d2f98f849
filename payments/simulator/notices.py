"""Webhooks of the bank: one signed HTTP POST for each event.

    Bank-Signature: t=UNIX_SECONDS,v1=HEX

HEX is HMAC-SHA256, with the shared secret, of "UNIX_SECONDS." and the body. A notice is stored in
the transaction of its event. Until a 2xx answers it, it is sent again, also after a restart.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import secrets
import sqlite3
import time
import urllib.request
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Thread
from typing import Any

from .answers import Answer
from .statements import with_all_that_followed
from .storage import at, now, reading, writing

log = logging.getLogger("bank")
#: Ignores proxies of the environment: the shop is at the configured URL.
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass(frozen=True)
class Subscriber:
    """The receiver of notices, and how they are sent.

    Attributes:
        times: how often each notice is sent.
        delay_seconds: the delay after the event.
        first: send the notice before the answer to the request.
    """

    url: str
    secret: str
    times: int = 1
    delay_seconds: float = 0.0
    first: bool = False


def note(connection: sqlite3.Connection, kind: str, answer: Answer, subscriber: Subscriber) -> str:
    """Store a notice in the transaction of its event, and return its id."""
    id_ = f"evt_{secrets.token_hex(12)}"
    authorization = with_all_that_followed(connection, _authorization(connection, answer.body))
    event = {
        "object": "event",
        "id": id_,
        "type": f"{kind}.{'declined' if answer.status == 402 else 'succeeded'}",
        "created": now(),
        "data": authorization,
    }
    # With `first` the request itself sends the notice; the notice-sender is the fallback.
    delay = 5.0 if subscriber.first else subscriber.delay_seconds
    due_at = at(datetime.now(UTC) + timedelta(seconds=delay))
    connection.execute(
        "INSERT INTO notices (id, body, due_at) VALUES (?, ?, ?)", [id_, json.dumps(event), due_at]
    )
    return id_


def owed(connection: sqlite3.Connection) -> Answer:
    """Count the notices that no receiver has accepted yet."""
    row = connection.execute("SELECT COUNT(*) AS number FROM notices WHERE NOT is_done").fetchone()
    return Answer(200, {"object": "notices", "owed": row["number"]})


def send(file: Path, subscriber: Subscriber, id_: str) -> None:
    """Send a notice `times` times. After a failure it is due again later."""
    with reading(file) as connection:
        row = connection.execute("SELECT * FROM notices WHERE id = ?", [id_]).fetchone()
    is_done = all(_post(subscriber, row["body"].encode()) for _ in range(subscriber.times))
    failures = row["failures"] + (not is_done)
    due_at = at(datetime.now(UTC) + timedelta(seconds=min(0.1 * 2**failures, 60)))
    with writing(file) as connection:
        connection.execute(
            "UPDATE notices SET is_done = ?, failures = ?, due_at = ? WHERE id = ?",
            [is_done, failures, due_at, id_],
        )


class NoticeSender(Thread):
    """Sends due notices as long as the bank runs."""

    def __init__(self, file: Path, subscriber: Subscriber) -> None:
        super().__init__(name="notice-sender", daemon=True)
        self._file = file
        self._subscriber = subscriber

    def run(self) -> None:
        while True:
            for id_ in self._due():
                send(self._file, self._subscriber, id_)
            time.sleep(0.05)

    def _due(self) -> list[str]:
        with reading(self._file) as connection:
            rows = connection.execute(
                "SELECT id FROM notices WHERE NOT is_done AND due_at <= ? ORDER BY number", [now()]
            )
            return [row["id"] for row in rows]


def signature(body: bytes, secret: str, timestamp: int) -> str:
    signed = hmac.new(secret.encode(), f"{timestamp}.".encode() + body, hashlib.sha256)
    return f"t={timestamp},v1={signed.hexdigest()}"


def _post(subscriber: Subscriber, body: bytes) -> bool:
    headers = {
        "Content-Type": "application/json",
        "Bank-Signature": signature(body, subscriber.secret, int(time.time())),
    }
    request = urllib.request.Request(subscriber.url, body, headers)  # noqa: S310  our own option
    try:
        with opener.open(request, timeout=10):  # it raises unless the status is 2xx
            return True
    except OSError as error:
        log.info("The webhook to %s was not accepted: %s", subscriber.url, error)
        return False


def _authorization(connection: sqlite3.Connection, body: dict[str, Any]) -> sqlite3.Row:
    outcome = body.get("error", {}).get("authorization") or body
    id_ = outcome["id"] if outcome["object"] == "authorization" else outcome.get("authorization")
    row = connection.execute(
        "SELECT * FROM authorizations WHERE id = ?"
        " OR id = (SELECT authorization_id FROM captures WHERE id = ?)",
        [id_, outcome.get("capture")],
    ).fetchone()
    return row  # type: ignore[no-any-return]  # sqlite3 types every row as Any
