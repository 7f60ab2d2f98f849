"""Room in PostgreSQL's table of locks for statements that read all partitions."""

from __future__ import annotations

from math import ceil

from django.utils.translation import gettext as _

from outbox.conf import conf

from .ahead import DAYS_AHEAD
from .catalogue import EVENT, partitions, read

#: Transactions that read all partitions at the same time, and that must find room.
AT_ONCE = 4
#: Days that events are assumed to be kept if `OUTBOX["RETENTION"]` does not say so.
_KEPT_DAYS = 30


class Room:
    """Locks that the server can hold, and those of a transaction that reads all partitions.

    Such a transaction locks both tables, each of their partitions, and all indexes of these. The
    server has room for twice `max_locks_per_transaction` for each connection.

    Args:
        using: the outbox's database alias.

    Attributes:
        setting: `max_locks_per_transaction`.
        days: days with partitions, now or after the conversion.
        of_one: locks of one transaction that reads them all.
    """

    def __init__(self, *, using: str) -> None:
        [facts] = read(_FACTS, using=using)
        self.setting, self._connections, indexes = map(int, facts)
        self.days = max(expected_days(), len(partitions(EVENT, using=using)))
        self.of_one = (self.days + 1) * (2 + indexes)

    @property
    def is_enough(self) -> bool:
        """Whether `AT_ONCE` such transactions find room."""
        return self.of_one * AT_ONCE <= 2 * self.setting * self._connections

    @property
    def is_ample(self) -> bool:
        """Whether each connection may have such a transaction at the same time."""
        return self.of_one <= 2 * self.setting

    def cause(self) -> str:
        """Return why the room may be too small, a sentence."""
        return _(
            "A statement about %(days)s days of partitions takes %(of_one)s locks, and "
            "max_locks_per_transaction is %(setting)s."
        ) % {
            "days": f"{self.days:,}",
            "of_one": f"{self.of_one:,}",
            "setting": f"{self.setting:,}",
        }

    def step(self) -> str:
        """Return the setting to change."""
        return _("Set max_locks_per_transaction to %(wanted)s or more, and restart PostgreSQL.") % {
            "wanted": ceil(self.of_one / 2)
        }


def expected_days() -> int:
    """Return the number of days with partitions by `OUTBOX["RETENTION"]`, those ahead included."""
    kept = [days for days in conf().RETENTION.values() if days is not None]
    return int(max(kept, default=_KEPT_DAYS)) + DAYS_AHEAD + 1


def endless() -> str:
    """Return why the number of partitions grows without end in spite of a default retention.

    Returns:
        Sentences with the cause and the next step. "": it does not grow so.
    """
    retention = conf().RETENTION
    names = sorted(name for name, days in retention.items() if days is None)
    if not names or retention.get("default") is None:
        return ""
    return _(
        'OUTBOX["RETENTION"] keeps %(names)s for ever. The partition of each day with such an '
        "event stays, so their number grows without end. Keep these types for a number of days, "
        "and set an ARCHIVE to have them as files afterwards."
    ) % {"names": ", ".join(names)}


_FACTS = """
SELECT current_setting('max_locks_per_transaction')::int,
    current_setting('max_connections')::int + current_setting('max_prepared_transactions')::int,
    (SELECT count(*) FROM pg_index
    WHERE indrelid IN (to_regclass('outbox_event'), to_regclass('outbox_delivery')))"""
