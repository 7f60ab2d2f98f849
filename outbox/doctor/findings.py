"""Findings of the doctor: a sentence, its severity, and advice."""

from __future__ import annotations

from dataclasses import dataclass

from django.utils.translation import gettext_lazy as _

from outbox.formatting import one_line

OK, WARNING, ERROR = "ok", "warning", "error"

#: All parts, also those that are named only if they cannot be examined.
_PARTS = {
    "beat": _("beat"),
    "broker": _("broker"),
    "clocks": _("clocks"),
    "database": _("database"),
    "external systems of sources": _("external systems of sources"),
    "heartbeats": _("heartbeats"),
    "migrations": _("migrations"),
    "owed deliveries": _("owed deliveries"),
    "processes": _("processes"),
    "queues": _("queues"),
    "relay": _("relay"),
    "settings": _("settings"),
    "sources": _("sources"),
    "subscriptions": _("subscriptions"),
    "wake-up": _("wake-up"),
    "worker": _("worker"),
}
_NAMED = {
    "queue": _("queue %s"),
    "sink": _("sink %s"),
    "source": _("source %s"),
    "worker": _("worker %s"),
}


@dataclass(frozen=True, kw_only=True)
class Finding:
    """The result of one check.

    Attributes:
        severity: "ok", "warning" or "error".
        part: part of the system: broker, database, queue inventory, ...
        text: the result, in one sentence.
        advice: what to do; "" for "ok".

    Text and advice are in the active language. `part` is a name for programs, and `label` the same
    for people.
    """

    severity: str
    part: str
    text: str
    advice: str = ""

    @property
    def label(self) -> str:
        """The part in the active language."""
        kind, _blank, name = self.part.partition(" ")
        if name and kind in _NAMED:
            return str(_NAMED[kind]) % name
        return str(_PARTS.get(self.part, self.part))


def ok(part: str, text: str) -> Finding:
    """Return a finding that needs no action."""
    return Finding(severity=OK, part=part, text=text)


def warning(part: str, text: str, advice: str) -> Finding:
    """Return a finding about something that works, and may cause trouble later."""
    return Finding(severity=WARNING, part=part, text=text, advice=advice)


def error(part: str, text: str, advice: str) -> Finding:
    """Return a finding about something that does not work, or loses messages or data."""
    return Finding(severity=ERROR, part=part, text=text, advice=advice)


def facts_of(caught: BaseException) -> dict[str, str]:
    """Return the class of an error as `name`, and its text on one line as `caught`."""
    return {"name": type(caught).__name__, "caught": one_line(str(caught))}
