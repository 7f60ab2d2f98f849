"""One module for each row. Its `ROW` describes and does the measurement."""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules

from benchmarks.row import Row

#: As they are read; a row that is not named here comes last.
ORDER = (
    *("relay", "drain", "sustained", "latency", "chain", "peers", "brokerless"),
    *("sinks", "emit", "post", "attack", "growth", "hot_key", "memory", "storage"),
)


def all_rows() -> list[Row]:
    """Return every row, in order."""
    names = [module.name for module in iter_modules(__path__)]
    rows: list[Row] = [import_module(f"{__name__}.{name}").ROW for name in names]
    return sorted(rows, key=lambda row: (*_place(row.name), row.name))


def _place(name: str) -> tuple[int]:
    return (ORDER.index(name) if name in ORDER else len(ORDER),)
