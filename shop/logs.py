"""The web server's access line as fields, for logs in JSON."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from outbox.context import CORRELATION_HEADER

_CORRELATION = f"{{{CORRELATION_HEADER.lower()}}}o"


class AccessFilter(logging.Filter):
    """Turn gunicorn's access record into method, path, status, seconds and correlation id.

    It is written after the request's context has ended, so the id is that of the answer. The query
    string stays out: it may hold what nobody should find in a log.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.args, Mapping):
            told = _told(record.args)
            vars(record).update(told)
            record.msg, record.args = "%s %s %s", (told["method"], told["path"], told["status"])
        return True


def _told(atoms: Mapping[str, Any]) -> dict[str, Any]:
    correlation_id = atoms[_CORRELATION]
    return {
        "method": atoms["m"],
        "path": atoms["U"],
        "status": int(atoms["s"]),
        "seconds": int(atoms["D"]) / 1_000_000,
        "correlation_id": "" if correlation_id == "-" else correlation_id,
    }
