"""The messages of alerts."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from django.utils.translation import gettext as _

from outbox.formatting import format_time, span
from outbox.privacy.masking import masked_patterns

#: The first message, a repetition, the last message, and the message of `outbox alerts test`.
Kind = Literal["opened", "repeated", "resolved", "test"]

_TITLE_LENGTH = 120


@dataclass(frozen=True, kw_only=True)
class AlertMessage:
    """A message to one channel about one problem.

    Attributes:
        id: the number of the alert, the same in all of its messages; 0 of a test.
        kind: "opened", "repeated", "resolved" or "test".
        trigger: one of `configuration.LIMITS`, such as "failing".
        title: one line.
        text: sentences.
        url: the page of the admin about the problem; "" without `SITE_URL`.
        opened_at: when the problem was found.
    """

    id: int
    kind: Kind
    trigger: str
    title: str
    text: str
    url: str = ""
    opened_at: datetime | None = None

    @property
    def body(self) -> str:
        """Text and URL."""
        return "\n\n".join(filter(None, (self.text, self.url)))


def opened(
    *, id: int, trigger: str, text: str, url: str, opened_at: datetime, is_first: bool
) -> AlertMessage:
    """Return the first message about a problem, or a repetition."""
    text, since = masked_patterns(text), format_time(opened_at)
    whole = text
    if not is_first:
        whole = _("%(text)s This message is repeated: the problem was found at %(since)s.") % {
            "text": text,
            "since": since,
        }
    return AlertMessage(
        id=id,
        kind="opened" if is_first else "repeated",
        trigger=trigger,
        title=_first_line(text),
        text=whole,
        url=url,
        opened_at=opened_at,
    )


def resolved(
    *, id: int, trigger: str, text: str, url: str, opened_at: datetime, resolved_at: datetime
) -> AlertMessage:
    """Return the last message about a problem."""
    text = masked_patterns(text)
    facts = {"text": _first_line(text), "span": span(resolved_at - opened_at)}
    return AlertMessage(
        id=id,
        kind="resolved",
        trigger=trigger,
        title=_("Resolved: %(text)s") % facts,
        text=_("Resolved after %(span)s: %(text)s") % facts,
        url=url,
        opened_at=opened_at,
    )


def message_of_test(*, channel: str, url: str) -> AlertMessage:
    """Return the message of `manage.py outbox alerts test`."""
    return AlertMessage(
        id=0,
        kind="test",
        trigger="test",
        title=_("Test of the channel %s") % channel,
        text=_("This is a test of the outbox's alerts. The channel %s works. There is no problem.")
        % channel,
        url=url,
    )


def _first_line(text: str) -> str:
    """Return the first line, cut."""
    line = text.strip().partition("\n")[0]
    return line if len(line) <= _TITLE_LENGTH else f"{line[: _TITLE_LENGTH - 1]}…"
