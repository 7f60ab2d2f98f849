"""A row of the table. Each module of `rows` has one, `ROW`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .ground import Ground
from .harness import Result


@dataclass(frozen=True)
class Row:
    """One row of the table.

    `measure(ground, quick)` raises where a side did not do its work; the other rows go on.
    An extra row is measured only where it is asked for by name.
    """

    name: str
    title: str
    target: str
    measure: Callable[[Ground, bool], Result]
    is_extra: bool = False
