"""Why a handler runs no deliveries: one wording for commands, pages, the doctor and operations."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.utils.translation import gettext as _

from outbox.formatting import end_command, format_time, one_line
from outbox.models import Operation, Subscription
from outbox.subscriptions import find

from .people import names_of

#: Kinds of stops, the one to name first if subscriptions of a handler differ.
BACKFILL, PAUSE, UNKNOWN, BREAKER, END = "backfill", "pause", "unknown", "breaker", "end"
_KINDS = (BACKFILL, PAUSE, UNKNOWN, BREAKER, END)


@dataclass(frozen=True, kw_only=True)
class Stop:
    """The reason why a handler runs no deliveries.

    Attributes:
        kind: one of this module's constants.
        cause: the cause, as a clause that begins with the handler's name.
        reason: the reason that a person or failure gave; "" if there is none.
        next_step: the next step, in one or more sentences.
    """

    kind: str
    cause: str
    reason: str = ""
    next_step: str

    @property
    def label(self) -> str:
        """The kind in one to four words."""
        labels = {
            BACKFILL: _("held by a backfill"),
            PAUSE: _("paused"),
            UNKNOWN: _("unknown"),
            BREAKER: _("breaker open"),
            END: _("ended"),
        }
        return labels[self.kind]

    @property
    def cause_and_reason(self) -> str:
        """The cause, with the reason in parentheses."""
        return f"{self.cause} ({self.reason})" if self.reason else self.cause

    @property
    def text(self) -> str:
        """Cause, reason and next step."""
        facts = {"cause": self.cause_and_reason, "step": self.next_step}
        return _("%(cause)s. %(step)s") % facts


def stop_of(
    row: Subscription,
    backfill: Operation | None,
    *,
    has_failures: bool = True,
    names: Mapping[str, str] | None = None,
) -> Stop | None:
    """Return why no delivery of a subscription is started, or None.

    Args:
        row: the subscription.
        backfill: the unfinished backfill that holds it, from `holding_backfill`.
        has_failures: quote the failure that opened a breaker or made a rule pause the handler.
        names: the names of the people that paused handlers, from `names_of`; None: read it.
    """
    if not row.active:
        return _ended(row)
    if not row.known:
        return _unknown(row)
    if row.paused_at is not None:
        reason = row.pause_reason if has_failures else public_pause_reason(row)
        by = (names_of([row.paused_by]) if names is None else names).get(row.paused_by)
        by = by or row.paused_by
        if backfill is not None:
            return backfill_stop(
                row.handler,
                number=backfill.pk,
                seen_at=backfill.seen_at,
                by=by,
                reason=reason,
            )
        return _paused(row, by=by, reason=reason)
    if row.breaker_opened_at is not None:
        return _breaker(row, reason=row.breaker_reason if has_failures else hidden_text())
    return None


def most_urgent(stops: Iterable[Stop | None]) -> Stop | None:
    """Return the stop to show for a handler, of those of its subscriptions; None: it runs.

    An ended subscription stops the handler only if all of its subscriptions have ended.
    """
    found = list(stops)
    stopped = [one for one in found if one is not None]
    if not all(one is not None and one.kind == END for one in found):
        stopped = [one for one in stopped if one.kind != END]
    return min(stopped, key=lambda one: _KINDS.index(one.kind), default=None)


def backfill_stop(
    handler: str, *, number: int, seen_at: datetime, by: str = "", reason: str = ""
) -> Stop:
    """Return the stop of a handler that an unfinished backfill holds.

    Args:
        handler: the handler's pinned name.
        number: number of the backfill's operation.
        seen_at: the operation's latest heartbeat.
        by: `paused_by` of the subscription; a person or rule may have taken over the pause.
        reason: the reason of that pause.
    """
    facts: dict[str, Any] = {"handler": handler, "number": number, "seen": format_time(seen_at)}
    text = _(
        "%(handler)s is held by its backfill, operation %(number)d, last heartbeat %(seen)s, until "
        "the backfill is complete"
    )
    is_taken_over = bool(by) and not by.startswith(Subscription.PAUSED_BY_BACKFILL)
    if is_taken_over:  # without a time: the takeover has kept the time of the backfill
        facts["by"] = by
        text = _(
            "%(handler)s is paused by %(by)s, and held by its backfill, operation %(number)d, last "
            "heartbeat %(seen)s, until the backfill is complete"
        )
    next_step = _(
        "Do not resume it. If the process of the backfill was killed: `manage.py outbox continue "
        "%(number)d`."
    )
    return Stop(
        kind=BACKFILL,
        cause=text % facts,
        reason=(one_line(reason) or _no_reason()) if is_taken_over else "",
        next_step=next_step % facts,
    )


def public_pause_reason(row: Subscription) -> str:
    """Return the reason of a pause for people who may not see failures."""
    is_failure = row.paused_by.startswith(Subscription.PAUSED_BY_RULE)
    return hidden_text() if is_failure else row.pause_reason


def hidden_text() -> str:
    """Return the text in place of a failure's."""
    return _("not shown: requires the permission to view deliveries")


def _no_reason() -> str:
    return _("no reason given")


def _ended(row: Subscription) -> Stop:
    cause = _("the subscription of %(handler)s to %(event)s has ended")
    step = _("To make it active again: `manage.py outbox resume %(handler)s`.")
    if not row.known:
        step = _(
            "To make it active again: migrate a release that has it, then `manage.py outbox resume "
            "%(handler)s`."
        )
    facts = {"handler": row.handler, "event": row.event}
    return Stop(kind=END, cause=cause % facts, next_step=step % facts)


def _unknown(row: Subscription) -> Stop:
    cause = _("the code that was last migrated does not subscribe %(handler)s to %(event)s")
    step = _(
        "Deploy and migrate a release that does, or name %(handler)s in the `formerly=` of its "
        "successor. Or end it: %(end)s."
    )
    # Of a handler that this code has, only this event was removed.
    event = row.event if find(row.handler) is not None else ""
    facts = {"handler": row.handler, "event": row.event, "end": end_command(row.handler, event)}
    return Stop(kind=UNKNOWN, cause=cause % facts, next_step=step % facts)


def _paused(row: Subscription, *, by: str, reason: str) -> Stop:
    assert row.paused_at is not None
    cause = _("%(handler)s is paused by %(by)s since %(when)s")
    step = _("To resume it: `manage.py outbox resume %(handler)s`.")
    facts = {
        "handler": row.handler,
        "by": by or _("an unknown user"),
        "when": format_time(row.paused_at),
    }
    reason = one_line(reason) or _no_reason()
    return Stop(kind=PAUSE, cause=cause % facts, reason=reason, next_step=step % facts)


def _breaker(row: Subscription, *, reason: str) -> Stop:
    assert row.breaker_opened_at is not None
    cause = _("%(handler)s is held by its breaker, open since %(since)s")
    step = _(
        "The next probe is due at %(probe)s. It is one delivery, and closes the breaker if it "
        "succeeds. To close it without a probe, so that its due deliveries are sent at once: "
        "`manage.py outbox close-breaker %(handler)s --reason TEXT`."
    )
    facts = {
        "handler": row.handler,
        "since": format_time(row.breaker_opened_at),
        "probe": format_time(row.breaker_probe_at or row.breaker_opened_at),
    }
    reason = one_line(reason) or _no_reason()
    return Stop(kind=BREAKER, cause=cause % facts, reason=reason, next_step=step % facts)
