"""Send the due messages of a channel, at least once, by one process at a time.

The order for each message: claim, send, store. A process that dies between the last two leaves the
message due, so another process sends it once more.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime, timedelta

from django.db.models import F, Q, QuerySet

from outbox import clock
from outbox.models import AlertNotice

from . import claims, messages
from .channels import ChannelFailed, send
from .configuration import AlertsConfig, ChannelConfig

logger = logging.getLogger("outbox.alerts")

#: The claim of a channel lasts for this many times its timeout. A message by SMTP takes several
#: steps, each with that timeout.
_STEPS = 12
_LONGEST_RETRY_SECONDS = 600.0

Around = Callable[[], AbstractContextManager[object]]


class Sender:
    """Sends the messages of one channel.

    Args:
        channel: the channel.
        config: the settings.
        using: the outbox's database alias.
        around: the context of each use of the database. Sending is outside of it.
    """

    def __init__(
        self,
        channel: ChannelConfig,
        config: AlertsConfig,
        *,
        using: str,
        around: Around = nullcontext,
    ) -> None:
        self._channel = channel
        self._config = config
        self._using = using
        self._around = around
        self._claim = f"channel {channel.name}"
        self._seconds = channel.timeout * _STEPS

    def has_due(self) -> bool:
        """Return whether a message is due."""
        with self._around():
            return next(self._due(), None) is not None

    def send_due(self) -> int:
        """Send the due messages, unless another process does; return their number.

        A failure ends it: the channel probably takes no other message either.
        """
        with self._around():
            token = claims.take(self._claim, seconds=self._seconds, using=self._using)
        if not token:
            return 0
        number = 0
        try:
            while (notice := self._next(token)) is not None and self._send(notice):
                number += 1
        finally:
            with self._around():
                claims.release(self._claim, token, using=self._using)
        return number

    def _next(self, token: str) -> AlertNotice | None:
        """Return the next due notice, as long as the claim is this process's."""
        with self._around():
            is_mine = claims.keep(self._claim, token, seconds=self._seconds, using=self._using)
            return next(self._due(), None) if is_mine else None

    def _due(self) -> Iterator[AlertNotice]:
        now = clock.now(using=self._using)
        quiet = self._channel.quiet
        for notice in _unfinished(self._channel, now, using=self._using):
            if quiet is None or not quiet.hold(notice.alert.trigger, now):
                yield notice

    def _send(self, notice: AlertNotice) -> bool:
        """Send the message of a notice, and store the outcome; return whether it was taken."""
        try:
            send(self._channel, self._message(notice))
        except ChannelFailed as error:
            logger.warning("An alert was not sent to the channel %s. %s", notice.channel, error)
            self._store_failure(notice, str(error))
            return False
        self._store(notice)
        return True

    def _message(self, notice: AlertNotice) -> messages.AlertMessage:
        alert, site = notice.alert, self._config.site_url
        url = f"{site}{alert.path}" if site and alert.path else ""
        if alert.resolved_at is not None:
            return messages.resolved(
                id=alert.pk,
                trigger=alert.trigger,
                text=alert.text,
                url=url,
                opened_at=alert.opened_at,
                resolved_at=alert.resolved_at,
            )
        return messages.opened(
            id=alert.pk,
            trigger=alert.trigger,
            text=alert.text,
            url=url,
            opened_at=alert.opened_at,
            is_first=notice.sent_at is None,
        )

    def _store(self, notice: AlertNotice) -> None:
        with self._around():
            now = clock.now(using=self._using)
            closed_at = None if notice.alert.resolved_at is None else now
            mine = AlertNotice.objects.using(self._using).filter(pk=notice.pk)
            mine.update(sent_at=now, closed_at=closed_at, retry_at=None, failures=0, error="")

    def _store_failure(self, notice: AlertNotice, error: str) -> None:
        seconds = min(_LONGEST_RETRY_SECONDS, 10.0 * 2 ** min(notice.failures, 10))
        with self._around():
            retry_at = clock.now(using=self._using) + timedelta(seconds=seconds)
            mine = AlertNotice.objects.using(self._using).filter(pk=notice.pk)
            mine.update(retry_at=retry_at, failures=F("failures") + 1, error=error[:300])


def _unfinished(channel: ChannelConfig, now: datetime, *, using: str) -> QuerySet[AlertNotice]:
    """Return the notices of a channel with a due message, whatever the hour."""
    is_first = Q(alert__resolved_at=None, sent_at=None)
    is_last = Q(alert__resolved_at__isnull=False, sent_at__isnull=False)
    due = is_first | is_last
    if channel.repeat is not None:
        again = now - timedelta(seconds=channel.repeat)
        due |= Q(alert__resolved_at=None, sent_at__lte=again)
    rows = AlertNotice.objects.using(using).filter(channel=channel.name, closed_at=None)
    waits = Q(retry_at__isnull=True) | Q(retry_at__lte=now)
    return rows.filter(due, waits).select_related("alert").order_by("id")
