"""Formats of times, durations and texts for people on call."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from difflib import get_close_matches
from shlex import quote

from django.db import DEFAULT_DB_ALIAS
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext, pgettext

_UNITS = (
    (gettext_lazy("%d d"), 86400),
    (gettext_lazy("%d h"), 3600),
    (gettext_lazy("%d min"), 60),
    (gettext_lazy("%d s"), 1),
)


def format_time(when: datetime) -> str:
    """Return "2026-11-24 23:39:05 UTC"."""
    return f"{when.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def listing(parts: Iterable[str]) -> str:
    """Return the parts with the separator of the active language: "a, b" in English."""
    return pgettext("between parts of a sentence", ", ").join(parts)


def format_clock(when: datetime, *, now: datetime) -> str:
    """Return "18:09 UTC" for a time of the last day, and "2026-11-24 18:09 UTC" for others."""
    is_recent = timedelta(0) <= now - when < timedelta(hours=24)
    return f"{when.astimezone(UTC):{'%H:%M' if is_recent else '%Y-%m-%d %H:%M'}} UTC"


def span(length: timedelta) -> str:
    """Return the two largest units, "2 h 5 min" or "12 s". A negative length counts as zero."""
    left = max(0, round(length.total_seconds()))
    parts = []
    for unit, size in _UNITS:
        number, left = divmod(left, size)
        parts.append(unit % number if number else "")
    first = next((place for place, part in enumerate(parts) if part), len(parts) - 1)
    return " ".join(part for part in parts[first : first + 2] if part) or _("%d s") % 0


def is_zero(length: timedelta) -> bool:
    """Return whether `span` gives "0 s" for a length."""
    return round(length.total_seconds()) <= 0


def one_line(text: str) -> str:
    """Return a text without line breaks and final full stops, for use within a sentence."""
    return " ".join(text.split()).rstrip(". ")


def migrate_command(using: str) -> str:
    """Return "migrate", with `--database` if it is not Django's default one."""
    return "migrate" if using == DEFAULT_DB_ALIAS else f"migrate --database {using}"


def end_command(handler: str, event: str = "") -> str:
    """Return the command that ends a handler's subscriptions, or one of them, in backticks."""
    chosen = f" --event {quote(event)}" if event else ""
    return f"`manage.py outbox end {handler}{chosen} --reason TEXT`"


def did_you_mean(word: str, words: Iterable[str]) -> str:
    """Return "Did you mean ...?", or "" if no word is similar."""
    close = get_close_matches(word, list(words), n=1)
    return _("Did you mean %(names)s?") % {"names": close[0]} if close else ""


def retry_policy(attempts: int | None, base: float, cap: float) -> str:
    """Return "5 attempts, backoff 1 s to 10 min". No attempts: they have no limit."""
    tries = _("unlimited attempts")
    if attempts is not None:
        tries = ngettext("%d attempt", "%d attempts", attempts) % attempts
    text = _("%(tries)s, backoff %(base)s to %(cap)s")
    return text % {"tries": tries, "base": _seconds(base), "cap": _seconds(cap)}


def _seconds(number: float) -> str:
    return _("%s s") % f"{number:g}" if number < 60 else span(timedelta(seconds=number))


def with_target(handler: str, target: str) -> str:
    """Return a handler's name, with the target in brackets if there is one."""
    return f"{handler} ({target})" if target else handler
