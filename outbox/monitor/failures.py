"""A group of failed deliveries with one cause: its facts, its sentence and its commands."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, replace
from datetime import datetime

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from outbox.formatting import format_clock, is_zero, listing, span

#: Kinds of groups.
FAILING, DEAD = "failing", "dead"


def unexamined_text(handler: str) -> str:
    """Return the sentence about a handler of which only a sample was examined."""
    text = _("Only a sample of the failing deliveries of %s was examined. It may have more causes.")
    return text % handler


@dataclass(frozen=True, kw_only=True)
class FailureGroup:
    """Deliveries of one handler whose latest attempts failed with one exception at one place.

    Attributes:
        kind: `FAILING` (they are tried again) or `DEAD` (they wait for a person).
        handler: pinned name.
        exception: class name; "" if the worker died or lost the database.
        message: text of the latest exception in one line, masked when it was stored, and cut.
        place: "module:line function" of the project's own code; "" if unknown.
        number: number of deliveries.
        is_least: only a sample of the handler's deliveries was grouped. So there may be more than
            `number`, and an earlier failure than `since`.
        keys: number of different keys of their events, such as orders; 0 if it is unknown.
        since: end of the earliest failed attempt since they last succeeded.
        latest: end of the latest failed attempt.
        next_attempt: time of the next attempt; None for dead deliveries.
        last_success: the minute of the handler's last success, as far as the outbox keeps minutes
            (25 hours); None without one.
        example: id of the delivery that failed last.
        worker: name of the worker of the latest attempt.
        release: `OUTBOX["RELEASE"]` of that worker; "" if it is not set, or without an
            exception.
        cause: the exception, or another cause in words.
        now: the time of the query.
    """

    kind: str
    handler: str
    exception: str
    message: str
    place: str
    number: int
    is_least: bool = False
    keys: int = 0
    since: datetime
    latest: datetime
    next_attempt: datetime | None = None
    last_success: datetime | None = None
    example: int
    worker: str = ""
    release: str = ""
    cause: str
    now: datetime

    @property
    def is_failing(self) -> bool:
        """Whether its deliveries are tried again."""
        return self.kind == FAILING

    def hidden(self) -> FailureGroup:
        """Return the group without its failure, for people who may not see failures."""
        cause = _("an exception")
        return replace(self, exception="", message="", place="", worker="", cause=cause)

    @property
    def number_text(self) -> str:
        """Its size: "1 delivery", "3 deliveries of 2 keys", "at least 200 deliveries (...)"."""
        if self.is_least:
            return _("at least %d deliveries (a sample was read)") % self.number
        text = ngettext("%d delivery", "%d deliveries", self.number) % self.number
        if self.keys in (0, self.number):
            return text
        of = ngettext("%(text)s of %(keys)d key", "%(text)s of %(keys)d keys", self.keys)
        return of % {"text": text, "keys": self.keys}

    @property
    def next_text(self) -> str:
        """The time until the next attempt in words; "" for dead deliveries."""
        if self.next_attempt is None:
            return ""
        left = self.next_attempt - self.now
        if is_zero(left):
            return _("next attempt now")
        return _("next attempt in %s") % span(left)

    @property
    def text(self) -> str:
        """One sentence: "failing: KeyError in a.b, 2 deliveries, since 18:09, next attempt now"."""
        text = _("dead: %(cause)s in %(handler)s, %(number)s, since %(since)s")
        if self.is_failing:
            text = _("failing: %(cause)s in %(handler)s, %(number)s, since %(since)s, %(next)s")
        return text % {
            "cause": self.cause,
            "handler": self.handler,
            "number": self.number_text,
            "since": self.at_the_latest(format_clock(self.since, now=self.now)),
            "next": self.next_text,
        }

    def at_the_latest(self, since: str) -> str:
        """Return a text of `since`; that of a sample may be later than the first failure."""
        return _("%s or earlier") % since if self.is_least else since

    @property
    def details(self) -> str:
        """Message, place, last success and release: "division by zero at a.services:7 award"."""
        parts = [
            self.message,
            _("at %s") % self.place if self.place else "",
            self.success_text,
            _("release %s") % self.release if self.release else "",
        ]
        return listing(filter(None, parts))

    @property
    def success_text(self) -> str:
        """The handler's last success in words."""
        if self.last_success is None:
            return _("no success of the handler in the last 25 hours")
        return _("last success of the handler at %s") % format_clock(
            self.last_success, now=self.now
        )

    @property
    def retry(self) -> str:
        """The command that makes the group due now."""
        state = "pending" if self.is_failing else "dead"
        cause = ["--exception", self.exception, "--place", self.place]
        words = ["retry", "--state", state, "--handler", self.handler, *cause]
        return shlex.join(["manage.py", "outbox", *words])

    @property
    def pause(self) -> str:
        """The command that pauses the handler; it requires a reason."""
        return shlex.join(["manage.py", "outbox", "pause", self.handler, "--reason", "TEXT"])
