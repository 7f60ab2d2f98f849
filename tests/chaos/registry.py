"""A registry of faults: each is a context manager that breaks a part, and repairs it at its end."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from tests.chaos.schedule import Kind

#: The first argument is the world of the run: a `WholeShop` or an `EdgeWorld`.
Fault = Callable[[Any, random.Random], AbstractContextManager[None]]

BOTH = ("sqlite", "postgresql")


class Faults:
    """The faults of one kind of run. `--faults` takes their names, and groups of them.

    Attributes:
        by_name: each fault.
        kinds: sequence and duration of each fault.
        groups: names of the faults of each group.
    """

    def __init__(self) -> None:
        self.by_name: dict[str, Fault] = {}
        self.kinds: dict[str, Kind] = {}
        self.groups: dict[str, list[str]] = {}
        self._databases: dict[str, tuple[str, ...]] = {}

    def add(
        self, name: str, fault: Fault, group: str, kind: Kind, databases: tuple[str, ...] = BOTH
    ) -> None:
        """Register a fault."""
        self.by_name[name], self.kinds[name], self._databases[name] = fault, kind, databases
        self.groups.setdefault(group, []).append(name)

    def fault(
        self,
        group: str,
        *,
        lane: str,
        lasts: tuple[float, float] = (0.0, 0.0),
        databases: tuple[str, ...] = BOTH,
    ) -> Callable[[Callable[[Any, random.Random], Iterator[None]]], Fault]:
        """Return a decorator that registers a generator function by its name."""

        def register(function: Callable[[Any, random.Random], Iterator[None]]) -> Fault:
            fault = contextmanager(function)
            kind = Kind(lane=lane, shortest=lasts[0], longest=lasts[1])
            self.add(function.__name__, fault, group, kind, databases)
            return fault

        return register

    def chosen(self, wanted: str, *, database: str) -> dict[str, Kind]:
        """Return the kinds of faults that `--faults` names, as far as this database can have them.

        Raises KeyError for a name that there is not.
        """
        names: set[str] = set()
        for name in wanted.split(",") if wanted else self.groups:
            names |= set(self.groups.get(name) or [self._known(name)])
        return {
            name: self.kinds[name] for name in sorted(names) if database in self._databases[name]
        }

    def _known(self, name: str) -> str:
        if name not in self.by_name:
            raise KeyError(name)
        return name
