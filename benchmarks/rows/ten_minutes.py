"""Ten minutes at full speed, as in the row `sustained`, beside a history of five million events."""

from __future__ import annotations

from benchmarks import endurance
from benchmarks.ground import Ground
from benchmarks.harness import Result
from benchmarks.row import Row
from benchmarks.sides import ours
from benchmarks.sizes import chosen, minutes


def measure(ground: Ground, quick: bool) -> Result:
    """Place orders at full speed while two processes handle them."""
    history = 20_000 if quick else chosen(5_000_000)
    return endurance.run(ground, ours(), history=history, minutes=minutes(2 if quick else 10))


ROW = Row(
    "ten_minutes",
    "emit and handle at once for ten minutes, beside five million events",
    "p99 and rate of the last minutes as in the first ones",
    measure,
    is_extra=True,
)
