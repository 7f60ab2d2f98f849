"""A long run by the minute: rate, latency, memory, open files, and the size of the database.

Used by the rows `ten_minutes` and `hour`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from threading import Thread

import psutil

from .ground import CEILING, Ground, Stage
from .harness import Figure, Ratio, Result, WrongEffects, median
from .sides import Side

MEBIBYTE = 2**20
MINUTE = 60.0

#: From `emit()` to the commit of the receipt, by the minute of `emit()`. The arguments are the time
#: of the first event of the run, the seconds of a minute, and the `seq` before the run.
BY_MINUTE = """
SELECT minute, count(*), percentile_cont(0.5) WITHIN GROUP (ORDER BY taken),
       percentile_cont(0.99) WITHIN GROUP (ORDER BY taken), max(taken)
FROM (
    SELECT floor(extract(epoch FROM e.emitted_at - ?) / ?) AS minute,
           extract(epoch FROM pg_xact_commit_timestamp(d.xmin) - e.emitted_at)::float * 1000
               AS taken
    FROM outbox_event e JOIN outbox_delivery d ON d.event_id = e.seq
    WHERE e.seq > ? AND d.state = 'done'
) AS delivered GROUP BY minute
"""

#: From the first `emit()` to the last commit of a receipt.
RATE = """
SELECT count(*)
     / extract(epoch FROM max(pg_xact_commit_timestamp(d.xmin)) - min(e.emitted_at))::float
FROM outbox_event e JOIN outbox_delivery d ON d.event_id = e.seq WHERE d.state = 'done'
"""

#: By partial indexes: the history has millions of rows.
IN_PROGRESS = """
SELECT (SELECT count(*) FROM outbox_event WHERE fanned_out_at IS NULL)
     + (SELECT count(*) FROM outbox_delivery WHERE state = 'pending')
     + (SELECT count(*) FROM outbox_delivery WHERE state = 'sent')
"""

#: Bytes of the database, and of the indexes that hold only waiting events and owed deliveries.
SIZES = """
SELECT pg_database_size(current_database()), sum(pg_relation_size(indexrelid))
FROM pg_index
WHERE indrelid IN ('outbox_event'::regclass, 'outbox_delivery'::regclass) AND indpred IS NOT NULL
"""


@dataclass(frozen=True)
class Sample:
    """What the processes and the database use at one time, in MiB.

    Attributes:
        files: open files and sockets of the worker and its children.
        connections: connections to the database.
        work: the partial indexes, which hold only waiting events and owed deliveries.
    """

    relay: float
    workers: float
    broker: float
    files: int
    connections: int
    database: float
    work: float


def highest_rate(ground: Ground, side: Side, *, count: int) -> float:
    """Return the events per second of one producer at full speed, with two worker processes."""
    with ground.stage(side) as stage:
        stage.start_consumers()
        stage.emit(count)
        _wait(stage)
        return float(stage.value(RATE))


def run(
    ground: Ground,
    side: Side,
    *,
    history: int,
    minutes: int,
    per_second: float = 0.0,
) -> Result:
    """Emit for some minutes beside a history; return the figures of each minute.

    Args:
        history: settled events in the tables before, each with one delivery.
        minutes: the duration; a part of a minute at the end is left out.
        per_second: events per second of the producer; 0: as fast as it can.

    Raises:
        WrongEffects: an event had no delivery, or two, or one that is not done.
    """
    with ground.stage(side) as stage:
        ceiling = CEILING * (1 + history / 1e6)
        stage.call("benchmarks.probes.filling", history, ceiling=ceiling)
        ground.settle()
        before = int(stage.value("SELECT max(seq) FROM outbox_event"))
        stage.start_consumers()
        samples = _sampled(stage, minutes, lambda: _emit(stage, minutes, per_second))
        _wait(stage)
        began = stage.value("SELECT min(emitted_at) FROM outbox_event WHERE seq > ?", before)
        found = stage.query(BY_MINUTE, began, MINUTE, before)
        by_minute = {int(minute): list(map(float, values)) for minute, *values in found}
        emitted = int(stage.value("SELECT count(*) FROM outbox_event WHERE seq > ?", before))
    if (handled := int(sum(row[0] for row in by_minute.values()))) != emitted:
        raise WrongEffects(f"{side.name}: {emitted} events, {handled} deliveries that are done.")
    rows = [by_minute.get(minute, [0.0] * 4) for minute in range(minutes)]
    return _result(rows, samples, history)


def _emit(stage: Stage, minutes: int, per_second: float) -> None:
    pace = ("--per-second", str(per_second)) if per_second else ()
    arguments = (0, "--seconds", minutes * MINUTE, "--no-times", *pace)
    stage.call("benchmarks.project.emit", *arguments, ceiling=minutes * MINUTE + CEILING)


def _sampled(stage: Stage, minutes: int, emit: Callable[[], None]) -> list[Sample]:
    """Run the producer, and take a sample at its start and after each minute.

    Raises:
        RuntimeError: the producer has failed.
    """
    failures: list[BaseException] = []

    def produce() -> None:
        try:
            emit()
        except BaseException as error:  # raised again below
            failures.append(error)

    producer = Thread(target=produce, daemon=True)
    began = time.monotonic()
    samples = [_sample(stage)]
    producer.start()
    for minute in range(1, minutes + 1):
        while producer.is_alive() and time.monotonic() < began + minute * MINUTE:
            time.sleep(0.5)
        samples.append(_sample(stage))
    producer.join()
    if failures:
        raise RuntimeError("The producer has failed.") from failures[0]
    return samples


def _sample(stage: Stage) -> Sample:
    parent = psutil.Process(stage.pid("worker"))
    children = parent.children(recursive=True)
    database, work = stage.query(SIZES)[0]
    return Sample(
        relay=_resident(parent),
        workers=sum(map(_resident, children)),
        broker=_resident(psutil.Process(stage.pid("broker"))),
        files=sum(one.num_fds() for one in (parent, *children)),
        connections=stage.connections(),
        database=database / MEBIBYTE,
        work=float(work) / MEBIBYTE,
    )


def _resident(process: psutil.Process) -> float:
    return float(process.memory_info().rss / MEBIBYTE)


def _wait(stage: Stage) -> None:
    stage.wait_until(lambda: not int(stage.value(IN_PROGRESS)), "no delivery is in progress")


def _result(
    by_minute: Sequence[Sequence[float]], samples: Sequence[Sample], history: int
) -> Result:
    rates = [row[0] / MINUTE for row in by_minute]
    figures = [Figure("events, by the minute", rates, "events/s")]
    for place, name in enumerate(("p50", "p99", "slowest"), start=1):
        figures.append(Figure(f"{name}, by the minute", [row[place] for row in by_minute], "ms"))
    kinds = {
        "relay": [one.relay for one in samples],
        "worker processes": [one.workers for one in samples],
        "broker": [one.broker for one in samples],
        "open files": [float(one.files) for one in samples],
        "connections": [float(one.connections) for one in samples],
        "database": [one.database for one in samples],
        "indexes of owed work": [one.work for one in samples],
    }
    units = {"open files": "", "connections": ""}
    figures += [
        Figure(f"{name}, by the minute", values, units.get(name, "MiB"))
        for name, values in kinds.items()
    ]
    p99 = [row[2] for row in by_minute]
    flat = {"p99": p99, **{name: kinds[name] for name in ("relay", "worker processes", "broker")}}
    ratios = [Ratio(f"growth of {name}", _growth(flat[name]), at_most=1.2) for name in flat]
    ratios.append(Ratio("last minutes' rate", _growth(rates), at_least=0.9))
    return Result(figures, ratios, [f"The history has {history:,} settled events."])


def _growth(values: Sequence[float]) -> float:
    """Return the median of the last fifth as a multiple of that of the first fifth.

    The first value is left out: processes allocate memory when they begin to work.
    """
    values = values[1:] or values
    part = max(len(values) // 5, 1)
    first, last = median(values[:part]), median(values[-part:])
    return last / first if first else math.inf
