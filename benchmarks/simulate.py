"""Simulate the outbox on one and on many machines: `python -m benchmarks.simulate [--validate]`.

The costs are those of the latest run of `make bench`. With `--validate` they are measured now, and
three loads of the model are compared with real runs on this machine, which takes about four
minutes. Both write `benchmarks/results/simulation.json`, and its part of `docs/scale.md`.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from statistics import median
from typing import Any

from outbox.drawing.chart import Series

from . import page, report, sizing
from .ground import Ground
from .simulation import costs, fleet, plots, runs, tables
from .simulation.costs import Costs
from .simulation.validation import validate

RESULTS = Path(__file__).parent / "results" / "simulation.json"
PROFILE = RESULTS.with_name("profile.json")
PAGE = page.PAGE.parent / "scale.md"
IMAGES = page.PAGE.parent / "images"
#: Orders per second of the chart of one machine.
RATES = (20, 100, 200, 400, 600, 800, 1000, 1100, 1200)
#: Simulated seconds of a shard, with and without a failover.
STEADY, WITH_FAILOVER = 20, 120
#: A smaller part of a shard's time is simulated above so many orders per second.
MANY = 100


def main(arguments: Sequence[str] | None = None) -> int:
    """Simulate, and write results, page and charts; return the exit code.

    It is 1 if a load that was compared with a real run is out of bounds.
    """
    options = _options(arguments)
    known = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    if options.validate:
        with Ground() as ground:
            found, compared = validate(ground)
        known |= {
            "costs": asdict(found),
            "validation": [asdict(one) | {"is_within": one.is_within()} for one in compared],
        }
    elif "costs" not in known or options.latest:
        known |= {"costs": asdict(from_latest(json.loads(report.LATEST.read_text())["rows"]))}
        known.pop("validation", None)
    known["fleets"] = [
        _planned(number, Costs(**known["costs"])) for number in sizing.ORDERS_A_MINUTE
    ]
    known["one_machine"] = _one_machine(Costs(**known["costs"]))
    RESULTS.write_text(json.dumps(known, indent=1) + "\n")
    page.replace(PAGE, tables.parts(known))
    _draw(known)
    print("\n\n".join(tables.parts(known).values()))
    return 0 if all(one["is_within"] for one in known.get("validation", ())) else 1


def from_latest(rows: Mapping[str, Any]) -> Costs:
    """Return the costs that a run of all rows of the benchmarks has measured.

    Raises:
        KeyError: a row that is needed was not measured.
    """

    def figure(row: str, name: str) -> float:
        return next(
            float(median(one["values"])) for one in rows[row]["figures"] if one["name"] == name
        )

    found = costs.from_hops(rows["hops"]["figures"], commit=0.0002)
    drain, p50 = figure("drain", "outbox"), figure("latency", "outbox, p50")
    return runs.calibrated(found, drain=drain, p50=p50)


def with_view(found: Costs) -> Costs:
    """Return the costs of processes that run for long, with those of the view of an order.

    The latter are from the latest `make profile`.
    """
    spent = json.loads(PROFILE.read_text())["order"]["microseconds"]
    return replace(
        found,
        first_order=0.0,
        first_pass=0.0,
        view=max(spent["web"] / 1e6 - found.order * (1 - costs.DATABASE_SHARE), 0.0),
        view_database=max(spent["PostgreSQL"] / 1e6 - found.order * costs.DATABASE_SHARE, 0.0),
    )


def _planned(orders_a_minute: int, found: Costs) -> dict[str, Any]:
    """Return the fleet for a rate, the figures of its run, and those of a failover."""
    rows = json.loads(report.LATEST.read_text())["rows"]
    found = with_view(found)
    planned = fleet.fleet_for(orders_a_minute, found, wal_of_order=sizing.wal_of_order(rows))
    is_large = planned.rate > MANY
    steady, _ = fleet.run(planned, found, seconds=STEADY / 2 if is_large else STEADY * 30)
    _, seen = fleet.run(
        planned, found, seconds=WITH_FAILOVER / 2 if is_large else WITH_FAILOVER, failover=True
    )
    return {
        "orders_a_minute": orders_a_minute,
        "fleet": asdict(planned) | {"connections": planned.connections},
        "steady": asdict(steady),
        "refused": seen.refused,
        "slowest": max(seen.completions),
        "backlog": [owed for _, owed in seen.backlog],
    }


def _one_machine(found: Costs) -> list[dict[str, float]]:
    return [
        {"rate": rate, **asdict(runs.one_machine(found, rate=rate, count=rate * 5, warm_up=rate))}
        for rate in RATES
    ]


def _draw(known: Mapping[str, Any]) -> None:
    steps = known["one_machine"]
    plots.write(
        IMAGES / "simulated-latency.svg",
        [
            Series("p50", [one["p50"] for one in steps]),
            Series("p99", [one["p99"] for one in steps], shape="dashed", tone="bad"),
        ],
        times=[f"{one['rate']} orders/s" for one in steps],
        label="Simulated latency of a delivery on one machine, by orders per second",
        unit=" ms",
    )
    middle = known["fleets"][1]
    plots.write(
        IMAGES / "simulated-failover.svg",
        [Series("events and deliveries that wait or run", middle["backlog"])],
        times=[f"{second} s" for second in range(len(middle["backlog"]))],
        label=f"Backlog during a failover, {middle['orders_a_minute']:,} orders a minute",
    )


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.simulate", description=__doc__)
    parser.add_argument(
        "--validate", action="store_true", help="measure costs, and three loads beside the model"
    )
    parser.add_argument(
        "--latest", action="store_true", help="take the costs from results/latest.json again"
    )
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
