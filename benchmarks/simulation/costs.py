"""The time of each step, from the row `hops` of the benchmarks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

#: The database's part of a step that a client and the database do in turn. A drain spends 170 µs of
#: a delivery in PostgreSQL and 200 µs in the worker (docs/performance.md).
DATABASE_SHARE = 0.46

#: Beginnings of the steps' names in the row `hops`.
_ORDERS, _PASS, _MESSAGE = "200 such transactions", "the relay fans out and sends", "a worker"
#: Events of the large pass, and deliveries of the large message, of the row `hops`.
_LARGE_PASS, _LARGE_MESSAGE = 200, 50


@dataclass(frozen=True, kw_only=True)
class Costs:
    """Seconds of each step; those of processor time include the database's part.

    Attributes:
        order: an order's transaction with its event.
        first_order: the first order of a process, which imports modules and connects to the
            database.
        first_pass: by how much the first pass with an event takes longer: the processes on its way
            to the handler connect to the broker and to the database.
        view: the web process beside that transaction.
        view_database: the database beside that transaction.
        look: a pass of the relay, apart from its events.
        event: an event of a pass, with its deliveries.
        message: a worker's message, apart from its deliveries.
        delivery: a delivery of a message, with a handler that inserts one row.
        transport: processor time for sending and receiving a message through the broker.
        nudge: processor time for a nudge of the relay.
        hop: from sending to receiving, while no processor is busy with it.
        commit: until the disk has a commit.
        cold: how many times as long `look`, `message`, `transport` and `nudge` take in a process
            that was idle before.
    """

    order: float
    look: float
    event: float
    message: float
    delivery: float
    first_order: float = 0.0
    first_pass: float = 0.0
    view: float = 0.0
    view_database: float = 0.0
    # Assumptions; no row measures them apart.
    transport: float = 0.0005
    nudge: float = 0.0006
    hop: float = 0.0002
    commit: float = 0.0002
    cold: float = 1.0


def from_hops(figures: Sequence[Mapping[str, Any]], *, commit: float) -> Costs:
    """Return the costs that the row `hops` shows.

    Args:
        figures: the row's figures; their values are milliseconds.
        commit: seconds until the disk has a commit. The row's steps include it.

    Raises:
        ValueError: a step of the row is missing.
    """
    one_order = _step(figures, _ORDERS) / _LARGE_PASS
    small, large = _step(figures, f"{_PASS} 1 "), _step(figures, f"{_PASS} {_LARGE_PASS} ")
    single = _step(figures, f"{_MESSAGE} handles a message of 1 ")
    many = _step(figures, f"{_MESSAGE} handles a message of {_LARGE_MESSAGE} ")
    event = (large - small) / (_LARGE_PASS - 1)
    delivery = (many - single) / (_LARGE_MESSAGE - 1)
    return Costs(
        order=max(one_order - commit, 0.0),
        look=max(small - event, 0.0),
        event=event,
        message=max(single - delivery - 2 * commit, 0.0),
        delivery=delivery,
        commit=commit,
    )


def _step(figures: Sequence[Mapping[str, Any]], beginning: str) -> float:
    """Return the median of a step in seconds."""
    for one in figures:
        if f"{one['name']} ".startswith(beginning):
            return float(median(one["values"])) / 1000
    raise ValueError(f"The row hops has no step {beginning!r}. Run: make bench ARGS='--only hops'.")
