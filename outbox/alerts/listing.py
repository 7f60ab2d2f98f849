"""The stored alerts, for the command and the page of the admin."""

from __future__ import annotations

from collections.abc import Sequence

from django.utils.translation import gettext as _

from outbox.formatting import format_time
from outbox.models import Alert, AlertNotice


def stored(*, using: str, with_resolved: bool = False, most: int = 100) -> Sequence[Alert]:
    """Return the alerts with their notices, the newest first.

    Args:
        using: the outbox's database alias.
        with_resolved: also those whose problem is gone.
        most: the most alerts.
    """
    rows = Alert.objects.using(using)
    if not with_resolved:
        rows = rows.filter(resolved_at=None)
    return list(rows.prefetch_related("notices").order_by("-id")[:most])


def outcomes(alert: Alert) -> list[str]:
    """Return a sentence for each channel of an alert: what was sent, or why not."""
    return [_outcome(one) for one in sorted(alert.notices.all(), key=lambda one: one.channel)]


def _outcome(notice: AlertNotice) -> str:
    facts = {"channel": notice.channel, "error": notice.error}
    if notice.error:
        text = _("%(channel)s: not sent (%(error)s)")
    elif notice.sent_at is None:
        text = _("%(channel)s: not sent yet")
        if notice.closed_at is not None:
            text = _("%(channel)s: not sent, the problem was gone before")
    else:
        facts["when"] = format_time(notice.sent_at)
        text = _("%(channel)s: sent at %(when)s")
    return text % facts
