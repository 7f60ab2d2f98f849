"""Tenants: the latency of one tenant's orders while another tenant has a backlog.

The backlog is larger than what the worker's two processes handle meanwhile. Or it grows: another
process emits at full speed. Or the other tenant has an outbox of its own, with its own database,
broker, relay and worker: then the two tenants share only the processors and the database server.
"""

from __future__ import annotations

from functools import partial

from benchmarks.ground import CEILING, Ground, Stage
from benchmarks.harness import Figure, Ratio, Result, WrongEffects, in_turn, percentile
from benchmarks.row import Row
from benchmarks.rows.latency import PER_SECOND, WARM_UP
from benchmarks.sides import Side, ours

_EMIT = "benchmarks.project.emit"
_HOOKS = "benchmarks.project.ours.tenants"
_KEEP_SMALL = """
CREATE TABLE small_order AS
SELECT o.id, o.order_id, pg_xact_commit_timestamp(o.xmin) AS placed_at
FROM sales_order o JOIN outbox_event v ON v.key = o.order_id::text WHERE v.tenant = 'small'"""
_EFFECTS = "SELECT count(*) FROM small_order JOIN sales_effect USING (order_id)"
#: From each order's commit to its effect's, in the order of the orders.
_MILLISECONDS = """
SELECT extract(epoch FROM pg_xact_commit_timestamp(e.xmin) - o.placed_at)::float * 1000
FROM small_order o JOIN sales_effect e USING (order_id) ORDER BY o.id"""
_OWED = "SELECT count(*) FROM outbox_delivery WHERE state = 'pending'"
_OWED_EVENTS = "SELECT count(*) FROM outbox_event WHERE fanned_out_at IS NULL"


def measure(ground: Ground, quick: bool) -> Result:
    """Place orders of a small tenant at a steady pace, alone and beside the backlog of another."""
    if quick:
        return compare(ground, count=80, backlog=15_000, repeats=1)
    return compare(ground, count=300, backlog=120_000, repeats=5)


def compare(ground: Ground, *, count: int, backlog: int, repeats: int) -> Result:
    """Return the latency of the small tenant.

    Alone; beside the other tenant's backlog; beside a backlog in another outbox; beside one that
    grows; and without shares.
    """
    fair, plain = side(), side(SHARE_WINDOW=None)
    measures = {
        "alone": partial(latencies, ground, fair, count),
        "beside a backlog": partial(latencies, ground, fair, count, backlog=backlog),
        "beside another outbox": partial(beside_another, ground, fair, count, backlog=backlog),
    }
    found = in_turn(measures, repeats=repeats)
    found |= in_turn(
        {
            "beside a growing backlog": partial(
                latencies, ground, fair, count, backlog=backlog // 4, grows=True
            ),
            "beside, no shares": partial(latencies, ground, plain, count, backlog=backlog),
        },
        repeats=1,
    )
    parts = {
        part: {name: _percentiles(runs, part) for name, runs in found.items()} for part in (50, 99)
    }
    ratios = [
        Ratio.of(
            f"tenants_p{part}_vs_{name}",
            values["beside a backlog"],
            values[other],
            at_most=1.5 if (part, name) == (99, "alone") else None,
        )
        for name, other in (("alone", "alone"), ("separate", "beside another outbox"))
        for part, values in parts.items()
    ]
    figures = [
        Figure(f"{name}, p{part}", values[name], "ms")
        for name in found
        for part, values in parts.items()
    ]
    note = f"The other tenant has {backlog:,} events in its backlog when the worker starts."
    return Result(figures, ratios, [note])


def side(**more: object) -> Side:
    """Return the outbox with tenants."""
    hooks = {"CAPTURE": f"{_HOOKS}.current", "RESTORE": f"{_HOOKS}.restored"}
    return ours(TENANT={**hooks, **more})


def beside_another(ground: Ground, one: Side, count: int, *, backlog: int) -> list[float]:
    """Return the same while the backlog of the other tenant is in another outbox."""
    with ground.stage(one) as other:
        _emit(other, backlog, "--batch", "500", tenant="large")
        with ground.stage(one) as stage:
            stage.start_consumers()
            other.start_consumers()
            place(stage, count)
            require_backlog(other)
            return milliseconds(stage, count)


def latencies(
    ground: Ground, one: Side, count: int, *, backlog: int = 0, grows: bool = False
) -> list[float]:
    """Return the milliseconds of each order of the small tenant, the first ones left out."""
    with ground.stage(one) as stage:
        if backlog:
            _emit(stage, backlog, "--batch", "500", tenant="large")
        stage.start_consumers()
        if grows:
            options = ["0", "--seconds", str(CEILING), "--batch", "500", "--no-times"]
            command = [one.python, "-m", _EMIT, *options]
            stage.start("large", command, BENCHMARK_TENANT="large")
        place(stage, count)
        if grows:
            stage.kill("large")
        if backlog:
            require_backlog(stage)
        return milliseconds(stage, count)


def place(stage: Stage, count: int) -> None:
    """Place the orders of the small tenant, and before them those that warm up."""
    _emit(stage, WARM_UP + count, "--per-second", str(PER_SECOND), tenant="small")


def require_backlog(stage: Stage) -> None:
    """Raise `WrongEffects` if no event is left of the backlog."""
    if not int(stage.value(_OWED)) + int(stage.value(_OWED_EVENTS)):
        raise WrongEffects("The backlog was handled before the orders: give a larger one.")


def milliseconds(stage: Stage, count: int) -> list[float]:
    """Return the latencies of the last `count` orders of the small tenant."""
    number = WARM_UP + count
    stage.query(_KEEP_SMALL)
    stage.wait_until(lambda: int(stage.value(_EFFECTS)) == number, "the small tenant's effects")
    return [float(row[0]) for row in stage.query(_MILLISECONDS)][-count:]


def _emit(stage: Stage, count: int, *options: str, tenant: str) -> None:
    stage.call(_EMIT, count, *options, BENCHMARK_TENANT=tenant)


def _percentiles(runs: list[list[float]], part: int) -> list[float]:
    return [percentile(run, part) for run in runs]


ROW = Row(
    "tenants",
    "orders of one tenant beside the backlog of another, p50 and p99",
    "p99 at most 1.5 times that of the tenant alone",
    measure,
    is_extra=True,
)
