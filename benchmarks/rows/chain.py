"""Chain: an order's whole way, from placed to ready to ship, as a multiple of one hop.

Four hops follow one after the other (the payment is asked for, noted, captured, noted), two of them
with a request to the bank; stock and e-mails go beside them, through the same two processes.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from benchmarks.ground import Ground
from benchmarks.harness import Figure, Ratio, Result, in_turn, median
from benchmarks.row import Row
from benchmarks.rows.latency import latencies
from benchmarks.rows.post import SHOP
from benchmarks.sides import ours
from tests.bank import API_KEY, BankProcess

PER_SECOND = 2.0
WARM_UP = 4

#: From the commit of an order to that of its last move; a line of history is never updated.
MILLISECONDS = """
SELECT extract(epoch FROM pg_xact_commit_timestamp(ready.xmin)
                        - pg_xact_commit_timestamp(placed.xmin))::float * 1000
FROM orders_orderhistory ready JOIN orders_orderhistory placed USING (order_id)
WHERE ready.to_status = 'ready_to_ship' AND placed.to_status = 'placed' ORDER BY placed.id
"""


def measure(ground: Ground, quick: bool) -> Result:
    """Measure one hop of the tiny project, then the shop's whole chain, in turn."""
    return compare(ground, orders=12 if quick else 30, repeats=1 if quick else 5)


def compare(ground: Ground, *, orders: int, repeats: int) -> Result:
    """Return the medians of both."""
    sides: dict[str, Callable[[], float]] = {
        "one hop": lambda: median(latencies(ground, ours(), orders * 4)),
        "placed to ready to ship": partial(_chain, ground, orders),
    }
    found = in_turn(sides, repeats=repeats)
    hop, chain = found.values()
    return Result(
        [Figure(f"{name}, p50", values, "ms") for name, values in found.items()],
        [Ratio.of("chain_vs_hop", chain, hop, at_most=10)],
        [f"{PER_SECOND:g} orders a second, one worker of two processes, a bank that answers."],
    )


def _chain(ground: Ground, orders: int) -> float:
    with ground.stage(SHOP) as stage:
        bank = BankProcess(stage.folder / "bank")
        bank.start()
        try:
            stage.environment |= {"BANK_URL": bank.url, "BANK_API_KEY": API_KEY}
            stage.run("-m", "shop.up.setup")
            stage.start_consumers()
            stage.call("benchmarks.probes.ordering", WARM_UP + orders, PER_SECOND)
            stage.wait_until(
                lambda: len(stage.query(MILLISECONDS)) == WARM_UP + orders, "all are ready to ship"
            )
            return median([float(row[0]) for row in stage.query(MILLISECONDS)][WARM_UP:])
        finally:
            bank.kill()


ROW = Row(
    "chain",
    "the order's whole chain, placed to ready to ship",
    "within 10 times one hop",
    measure,
)
