"""The web server's access line as fields, for logs in JSON."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from outbox.context import CORRELATION_HEADER

_CORRELATION = f"{{{CORRELATION_HEADER.lower()}}}o"


class AccessFilter(logging.Filter):
    """Turn gunicorn's access record into method, path, status, seconds and correlation id.

    It is written after the request's context has ended, so the id is that of the answer. The query
    string stays out: it may hold what nobody should find in a log.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        atoms = record.args
        if isinstance(atoms, Mapping):
            record.method, record.path, record.status = atoms["m"], atoms["U"], int(atoms["s"])
            record.seconds = int(atoms["D"]) / 1_000_000
            record.correlation_id = "" if (found := atoms[_CORRELATION]) == "-" else found
            record.msg, record.args = "%s %s %s", (record.method, record.path, record.status)
        return True
