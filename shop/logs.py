"""Filters of log records: access lines as fields, client errors as one line, no secrets."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from typing import Any

from outbox.context import CORRELATION_HEADER
from outbox.privacy.masking import masked_addresses

#: Maximum characters of a text from a client.
LONGEST_LINE = 300

#: Who has the address of such a page may choose a new password, for an hour.
_PASSWORD_LINK = re.compile(r"(/new-password/)[^/\s]+/[^/\s?\"']+")
#: Who has this one may verify somebody else's e-mail address, for three days.
_VERIFICATION_LINK = re.compile(r"(/account/verify/)[^/\s?\"']+")
_CORRELATION = f"{{{CORRELATION_HEADER.lower()}}}o"


def without_links(text: str) -> str:
    """Mask the secret parts of links to a new password, and of links that verify an address."""
    return _VERIFICATION_LINK.sub(r"\1***", _PASSWORD_LINK.sub(r"\1***/***", text))


class AccessFilter(logging.Filter):
    """Turn gunicorn's access record into client, method, path, status, seconds, correlation id.

    The record is written after the request's context has ended, so the id is the answer's. The
    query string is left out: it may contain secrets.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.args, Mapping):
            fields = _fields(record.args)
            vars(record).update(fields)
            record.msg, record.args = (
                "%s %s %s",
                (fields["method"], fields["path"], fields["status"]),
            )
        return True


class ClientErrorFilter(logging.Filter):
    """Log a client's error as a warning of one line, and not as an error of this site.

    Django adds a traceback to a wrong host name, too many fields, a NUL character and the like.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Change such a record; pass every record."""
        is_answered = record.name == "django.request" and getattr(record, "status_code", 0) < 500
        if (is_answered or record.name.startswith("django.security.")) and record.exc_info:
            record.msg, record.args = record.getMessage()[:LONGEST_LINE], ()
            record.levelno, record.levelname = logging.WARNING, "WARNING"
            record.exc_info = record.exc_text = None
        return True


class PersonalDataFilter(logging.Filter):
    """Mask e-mail addresses and secret links in the message and traceback of a record.

    A library may log its input. Fields of `extra` are not searched. Long numbers stay, since the id
    of a delivery may be one. Texts of failures have their long numbers removed before logging.
    """

    _formatter = logging.Formatter()

    def filter(self, record: logging.LogRecord) -> bool:
        """Change the record; pass every record."""
        try:
            record.msg, record.args = _masked(record.getMessage()), ()
        except Exception:
            return True  # its arguments do not fit; the handler reports that
        if record.exc_info and not record.exc_text:
            record.exc_text = self._formatter.formatException(record.exc_info)
        if record.exc_text:
            record.exc_text, record.exc_info = _masked(record.exc_text), None
        return True


def _masked(text: str) -> str:
    return without_links(masked_addresses(text))


def _fields(atoms: Mapping[str, Any]) -> dict[str, Any]:
    correlation_id = atoms[_CORRELATION]
    return {
        "client": atoms["h"],
        "method": atoms["m"],
        "path": without_links(atoms["U"]),
        "status": int(atoms["s"]),
        "seconds": int(atoms["D"]) / 1_000_000,
        "correlation_id": "" if correlation_id == "-" else correlation_id,
    }
