"""The cost of an order for the outbox, and the needs of a rate of orders, by a run's figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

#: Of an order of the shop that is shipped, as docs/reference/events.md has them.
EVENTS, DELIVERIES = 10, 17
ORDERS_A_MINUTE = (100, 10_000, 1_000_000)

#: Each figure that is needed: its row, and its name there.
NEEDED = {
    "emit": ("emit", "emit() adds"),
    "drain": ("drain", "outbox"),
    "wal_event": ("storage", "per event, emit()"),
    "wal_delivery": ("storage", "per delivery, relayed and handled"),
    "event": ("storage", "stored: outbox_event"),
    "delivery": ("storage", "stored: outbox_delivery"),
}


def table(rows: Mapping[str, Any]) -> str:
    """Return the table of needs, or a sentence where a figure is missing."""
    figures = {name: _figure(rows, *where) for name, where in NEEDED.items()}
    missing = [" of ".join(reversed(NEEDED[name])) for name in figures if figures[name] is None]
    if missing:
        return f"Not measured in this run: {', '.join(missing)}."
    known = {name: value for name, value in figures.items() if value is not None}
    lines = [
        "| orders a minute | events/s | deliveries/s | cores | WAL | stored a day |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    lines += [_line(orders, known) for orders in ORDERS_A_MINUTE]
    return "\n".join(lines)


def _line(orders: int, figures: Mapping[str, float]) -> str:
    a_second = orders / 60
    # A drain keeps two cores busy: with the relay, the worker's processes and the database.
    cores = EVENTS * figures["emit"] / 1000 + DELIVERIES * 2 / figures["drain"]
    wal = EVENTS * figures["wal_event"] + DELIVERIES * figures["wal_delivery"]
    stored = EVENTS * figures["event"] + DELIVERIES * figures["delivery"]
    cells = [
        f"{orders:,}",
        f"{EVENTS * a_second:,.0f}",
        f"{DELIVERIES * a_second:,.0f}",
        f"{cores * a_second:,.2g}" if cores * a_second < 10 else f"{cores * a_second:,.0f}",
        f"{wal * a_second / 1e6:,.1f} MB/s",
        f"{stored * orders * 1440 / 1e9:,.1f} GB",
    ]
    return f"| {' | '.join(cells)} |"


def wal_of_order(rows: Mapping[str, Any]) -> float:
    """Return the bytes of the database's log for one order of the shop.

    Raises:
        KeyError: the row `storage` was not measured.
    """
    event, delivery = _figure(rows, *NEEDED["wal_event"]), _figure(rows, *NEEDED["wal_delivery"])
    if event is None or delivery is None:
        raise KeyError("storage")
    return EVENTS * event + DELIVERIES * delivery


def _figure(rows: Mapping[str, Any], row: str, name: str) -> float | None:
    found: Sequence[Mapping[str, Any]] = rows.get(row, {}).get("figures", [])
    return next((median(one["values"]) for one in found if one["name"] == name), None)
