"""Transactions that use tables, found without a request for a lock.

Whoever needs a table queues behind a request for an exclusive lock. So a request is made when the
transactions that would outlast it have ended.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

from django.utils.translation import gettext as _

from .catalogue import read

#: Seconds between two reports of a wait.
REPORT_SECONDS = 10.0
_PAUSE = 0.1
_LONGEST_QUERY = 100


def users(tables: Sequence[str], *, using: str) -> dict[str, str]:
    """Return a description of each transaction that has a lock of the tables, by its number.

    Maintenance is left out: PostgreSQL ends an autovacuum for the sake of a lock.
    """
    params = {"tables": list(tables), "length": _LONGEST_QUERY}
    return {
        number: _("process %(pid)s: %(query)s") % {"pid": pid, "query": " ".join(query.split())}
        if pid
        else _("a prepared transaction")
        for number, pid, query in read(_USERS, params, using=using)
    }


def wait_for_users(
    tables: Sequence[str], *, until: float, report: Callable[[str], object], using: str
) -> Mapping[str, str]:
    """Wait until each transaction has ended that uses the tables now.

    Args:
        tables: names of tables.
        until: time of `time.monotonic` at which the wait ends.
        report: called with the transactions that have not ended, every ten seconds.
        using: the database alias.

    Returns:
        Those that have not ended, as `users`; empty if all have ended.
    """
    left = users(tables, using=using)
    report_at = time.monotonic() + REPORT_SECONDS
    while left and time.monotonic() < until:
        time.sleep(_PAUSE)
        now = users(tables, using=using)
        left = {number: now[number] for number in left if number in now}
        if left and time.monotonic() >= report_at:
            report(_("Waiting for %(users)s.") % {"users": ", ".join(left.values())})
            report_at = time.monotonic() + REPORT_SECONDS
    return left


# Roles without the rights of pg_monitor see no query of others and no time of their transaction.
# But they see all locks, and a virtual transaction has a number of its own.
_USERS = """
SELECT l.virtualtransaction, l.pid, left(coalesce(max(a.query), ''), %(length)s)
FROM pg_locks l LEFT JOIN pg_stat_activity a ON a.pid = l.pid
WHERE l.locktype = 'relation' AND l.granted AND l.mode <> 'ShareUpdateExclusiveLock'
AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
AND l.relation IN (SELECT to_regclass(one) FROM unnest(%(tables)s::text[]) one)
AND l.pid IS DISTINCT FROM pg_backend_pid()
GROUP BY l.virtualtransaction, l.pid"""
