"""The write-ahead log by table and index: `python -m benchmarks.probes.wal EVENTS`.

Prints the bytes per event that each table and index adds: when events are emitted, when relay and
worker process them as a backlog, and when each event is emitted and processed before the next one.
Needs PostgreSQL's extension pg_walinspect, and a superuser.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial

import django

from benchmarks.probes import print_json
from benchmarks.probes.storage import emit_all, execute, run_all, stop_autovacuum

#: The records of a step by their first block; "-" has those without one, such as COMMIT.
BY_RELATION = """
WITH record AS (
    SELECT record_length, substring(block_ref FROM 'rel \\d+/\\d+/(\\d+)')::oid AS node
    FROM pg_get_wal_records_info(%s, %s))
SELECT coalesce(c.relname, '-'), sum(record_length)::float
FROM record LEFT JOIN pg_class c ON c.relfilenode = record.node
GROUP BY 1 ORDER BY 2 DESC
"""


def main(events: int) -> None:
    """Run each step once as a warm-up, which takes the pages that are logged whole, and again."""
    django.setup()
    execute("CREATE EXTENSION IF NOT EXISTS pg_walinspect")
    stop_autovacuum()
    steps: dict[str, Callable[[], None]] = {
        "backlog, emit()": partial(emit_all, events),
        "backlog, relay and worker": partial(run_all, events),
        "one by one": partial(_one_by_one, events),
    }
    for step in steps.values():
        step()
    print_json({name: _by_relation(step, events) for name, step in steps.items()})


def _by_relation(step: Callable[[], None], events: int) -> dict[str, float]:
    before = _flushed()
    step()
    found = execute(BY_RELATION, before, _flushed())
    return {relation: written / events for relation, written in found}


def _flushed() -> str:
    """Write a record, wait until the log is on disk, and return its end: only that can be read."""
    execute("SELECT pg_logical_emit_message(true, 'benchmark', '')")
    return str(execute("SELECT pg_current_wal_flush_lsn()")[0][0])


def _one_by_one(events: int) -> None:
    for _ in range(events):
        emit_all(1)
        run_all(1)


if __name__ == "__main__":
    main(int(sys.argv[1]))
