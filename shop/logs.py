"""The web server's access line as fields, and what clients did wrong as one line."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from outbox.context import CORRELATION_HEADER

#: Characters of what a client wrote.
LONGEST_LINE = 300

_CORRELATION = f"{{{CORRELATION_HEADER.lower()}}}o"


class AccessFilter(logging.Filter):
    """Turn gunicorn's access record into client, method, path, status, seconds, correlation id.

    It is written after the request's context has ended, so the id is that of the answer. The query
    string stays out: it may hold what nobody should find in a log.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.args, Mapping):
            told = _told(record.args)
            vars(record).update(told)
            record.msg, record.args = "%s %s %s", (told["method"], told["path"], told["status"])
        return True


class ClientErrorFilter(logging.Filter):
    """Log what a client did wrong as a warning of one line, and not as an error of this site.

    Django adds a traceback to a wrong host name, too many fields, a NUL character and the like.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Change such a record; let every record pass."""
        is_answered = record.name == "django.request" and getattr(record, "status_code", 0) < 500
        if (is_answered or record.name.startswith("django.security.")) and record.exc_info:
            record.msg, record.args = record.getMessage()[:LONGEST_LINE], ()
            record.levelno, record.levelname = logging.WARNING, "WARNING"
            record.exc_info = record.exc_text = None
        return True


def _told(atoms: Mapping[str, Any]) -> dict[str, Any]:
    correlation_id = atoms[_CORRELATION]
    return {
        "client": atoms["h"],
        "method": atoms["m"],
        "path": atoms["U"],
        "status": int(atoms["s"]),
        "seconds": int(atoms["D"]) / 1_000_000,
        "correlation_id": "" if correlation_id == "-" else correlation_id,
    }
