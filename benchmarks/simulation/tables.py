"""The parts of `docs/scale.md` that the simulation writes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from benchmarks.report import number


def parts(known: Mapping[str, Any]) -> dict[str, str]:
    """Return each part by its name."""
    return {
        "validation": "\n".join(_validation(known)),
        "one machine": "\n".join(_one_machine(known["one_machine"])),
        "fleets": "\n".join(_fleets(known["fleets"])),
        "failover": "\n".join(_failover(known["fleets"])),
        "limits": "\n".join(_limits(known["fleets"])),
    }


def _validation(known: Mapping[str, Any]) -> Iterator[str]:
    if "validation" not in known:
        yield "The model was not compared with a run. Its costs are those of the latest benchmark."
        return
    yield "| orders/s | | machine | model | model / machine |"
    yield "| --- | --- | --- | --- | --- |"
    units = {"throughput": "orders/s", "p50": "ms", "p99": "ms"}
    for one in known["validation"]:
        for name, unit in units.items():
            machine, model = one["machine"][name], one["model"][name]
            cells = f"{number(machine)} {unit} | {number(model)} {unit} | {model / machine:.2f}"
            yield f"| {number(one['rate'])} | {name} | {cells} |"
    within = sum(one["is_within"] for one in known["validation"])
    yield ""
    yield (
        f"{within} of {len(known['validation'])} loads are within the bounds: throughput and p50 "
        "within 15 %, p99 within a factor of two."
    )


def _one_machine(steps: list[dict[str, float]]) -> Iterator[str]:
    yield "| orders/s | handled per second | p50 | p99 |"
    yield "| --- | --- | --- | --- |"
    for one in steps:
        shown = (number(one["throughput"]), f"{number(one['p50'])} ms", f"{number(one['p99'])} ms")
        yield _row(str(one["rate"]), *shown)


def _fleets(fleets: list[dict[str, Any]]) -> Iterator[str]:
    yield _row(
        *("orders a minute", "shards", "cores of each: database, web, workers"),
        *("processes of each: web, workers", "connections of each", "WAL of each"),
        *("handled p50, p99", "ready to ship p50, p99", "busiest in the run"),
    )
    yield _row(*["---"] * 9)
    for one in fleets:
        each, seen = one["fleet"], one["steady"]
        cells = [
            f"{one['orders_a_minute']:,}",
            f"{each['shards']}",
            f"{each['database_cores']}, {each['web_cores']}, {each['worker_cores']}",
            f"{each['web_processes']}, {sum(each['processes'].values())}",
            f"{each['connections']}",
            f"{each['wal'] / 1e6:.1f} MB/s",
            f"{seen['p50'] * 1000:.0f} ms, {seen['p99'] * 1000:.0f} ms",
            f"{seen['complete_p50']:.2f} s, {seen['complete_p99']:.2f} s",
            "{}: {:.0%}".format(*max(seen["use"].items(), key=lambda item: item[1])),
        ]
        yield _row(*cells)


def _failover(fleets: list[dict[str, Any]]) -> Iterator[str]:
    yield _row(
        *("orders a minute", "orders that a shard refuses", "largest backlog of a shard"),
        "slowest order in the run, placed to ready to ship",
    )
    yield _row(*["---"] * 4)
    for one in fleets:
        yield _row(
            *(f"{one['orders_a_minute']:,}", f"{one['refused']:,}", f"{max(one['backlog']):,}"),
            f"{one['slowest']:.1f} s",
        )


def _limits(fleets: list[dict[str, Any]]) -> Iterator[str]:
    yield _row(
        "orders a minute", *(f"shards for the {name}" for name in fleets[0]["fleet"]["bounds"])
    )
    yield _row(*["---"] * (1 + len(fleets[0]["fleet"]["bounds"])))
    for one in fleets:
        bounds = (number(value) for value in one["fleet"]["bounds"].values())
        yield _row(f"{one['orders_a_minute']:,}", *bounds)


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"
