"""What the doctor says: a sentence, how bad it is, and what to do."""

from __future__ import annotations

from dataclasses import dataclass

OK, WARNING, ERROR = "ok", "warning", "error"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that the doctor looked at.

    Attributes:
        severity: "ok", "warning" or "error".
        part: of the system: broker, database, queue inventory, ...
        text: what was found, in one sentence.
        advice: what to do; "" where all is well.
    """

    severity: str
    part: str
    text: str
    advice: str = ""


def ok(part: str, text: str) -> Finding:
    """All is well."""
    return Finding(severity=OK, part=part, text=text)


def warning(part: str, text: str, advice: str) -> Finding:
    """It works, and may hurt one day."""
    return Finding(severity=WARNING, part=part, text=text, advice=advice)


def error(part: str, text: str, advice: str) -> Finding:
    """It does not work, or loses something."""
    return Finding(severity=ERROR, part=part, text=text, advice=advice)
