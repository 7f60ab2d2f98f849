"""Send the due messages of a channel, at least once, by one process at a time.

The order for each message: claim, send, store. A process that dies between the last two leaves the
message due, so another process sends it once more.
"""

from __future__ import annotations

import logging
from contextlib import nullcontext
from datetime import datetime, timedelta

from django.db.models import F, Q, QuerySet

from outbox import clock
from outbox.fork_safety import once_used
from outbox.models import AlertNotice

from . import claims, messages
from .channels import ChannelFailed, seconds_of_step, send
from .claims import CLOCK_TOLERANCE, Around
from .configuration import AlertsConfig, ChannelConfig

logger = logging.getLogger("outbox.alerts")

#: The claim of a channel. It is extended while a message is sent, so this is the time until another
#: process sends if this one dies.
CLAIM_SECONDS = 60.0
#: The relay, the heartbeats and the forks of this process wait for so long for a function or an
#: e-mail backend that uses SQLite. Less than three heartbeats, and than the rest of a claim.
DATABASE_SECONDS = 20.0
#: A claim is extended for this many times the timeout of a step: a message by SMTP takes several.
#: It is at least ten minutes. Functions and backends of other packages have no timeout.
_STEPS = 30
_LEAST_SECONDS = 600.0
_LONGEST_RETRY_SECONDS = 600.0


class Sender:
    """Sends the messages of one channel.

    Args:
        channel: the channel.
        config: the settings.
        using: the outbox's database alias.
        around: the context of each use of the database. Sending is outside of it until a function
            or an e-mail backend uses a database.
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

    def has_due(self) -> bool:
        """Return whether a message is due."""
        with self._around():
            return self._due() is not None

    def send_due(self) -> int:
        """Send the due messages, unless another process does; return their number.

        A failure ends it: the channel probably takes no other message either.
        """
        with self._around():
            token = claims.take(
                self._claim,
                seconds=CLAIM_SECONDS,
                using=self._using,
                longest=longest_seconds(self._channel),  # as earlier releases took it
            )
        if not token:
            return 0
        number = 0
        try:
            while (notice := self._next(token)) is not None and self._send(notice, token):
                number += 1
        finally:
            with self._around():
                claims.release(self._claim, token, using=self._using)
        return number

    def _next(self, token: str) -> AlertNotice | None:
        """Return the next due notice, as long as the claim is this process's."""
        with self._around():
            is_mine = claims.keep(self._claim, token, seconds=CLAIM_SECONDS, using=self._using)
            return self._due() if is_mine else None

    def _due(self) -> AlertNotice | None:
        """Return the first due notice; those that quiet hours hold are not read."""
        now, quiet = clock.now(using=self._using), self._channel.quiet
        rows = _unfinished(self._channel, now, using=self._using)
        if quiet is not None and quiet.are_now(now):
            rows = rows.filter(alert__trigger__in=quiet.exceptions)
        return rows.first()

    def _send(self, notice: AlertNotice, token: str) -> bool:
        """Send the message of a notice, and store the outcome; return whether it was taken."""
        kept = claims.kept(
            self._claim,
            token,
            seconds=CLAIM_SECONDS,
            at_most=longest_seconds(self._channel),
            using=self._using,
            around=self._around,
        )
        try:
            with kept, once_used(self._around, at_most=DATABASE_SECONDS):
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


def longest_seconds(channel: ChannelConfig) -> float:
    """Return the time for which a process keeps the claim of a channel for one message."""
    return max(_LEAST_SECONDS, _STEPS * seconds_of_step(channel))


def _unfinished(channel: ChannelConfig, now: datetime, *, using: str) -> QuerySet[AlertNotice]:
    """Return the notices of a channel with a due message, whatever the hour.

    A time too far in the future was stored before the clock went back, and holds no message.
    """
    is_first = Q(alert__resolved_at=None, sent_at=None)
    is_last = Q(alert__resolved_at__isnull=False, sent_at__isnull=False)
    due = is_first | is_last
    if channel.repeat is not None:
        again = now - timedelta(seconds=channel.repeat)
        is_again = Q(sent_at__lte=again) | Q(sent_at__gt=now + CLOCK_TOLERANCE)
        due |= Q(alert__resolved_at=None) & is_again
    rows = AlertNotice.objects.using(using).filter(
        channel=channel.name, alert__trigger__in=channel.triggers, closed_at=None
    )
    possible = now + timedelta(seconds=_LONGEST_RETRY_SECONDS) + CLOCK_TOLERANCE
    waited = Q(retry_at__isnull=True) | Q(retry_at__lte=now) | Q(retry_at__gt=possible)
    return rows.filter(due, waited).select_related("alert").order_by("id")
