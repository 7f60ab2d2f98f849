"""Findings of the doctor: a sentence, its severity, and advice."""

from __future__ import annotations

from dataclasses import dataclass

OK, WARNING, ERROR = "ok", "warning", "error"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """The result of one check.

    Attributes:
        severity: "ok", "warning" or "error".
        part: part of the system: broker, database, queue inventory, ...
        text: the result, in one sentence.
        advice: what to do; "" for "ok".
    """

    severity: str
    part: str
    text: str
    advice: str = ""


def ok(part: str, text: str) -> Finding:
    """Return a finding that needs no action."""
    return Finding(severity=OK, part=part, text=text)


def warning(part: str, text: str, advice: str) -> Finding:
    """Return a finding about something that works, and may cause trouble later."""
    return Finding(severity=WARNING, part=part, text=text, advice=advice)


def error(part: str, text: str, advice: str) -> Finding:
    """Return a finding about something that does not work, or loses messages or data."""
    return Finding(severity=ERROR, part=part, text=text, advice=advice)
