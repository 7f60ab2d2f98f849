"""The doctor: looks at the running system and says in sentences what is wrong and what to do.

It works with whatever is down: each part is examined by itself, and a part that cannot be examined
is a finding too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from . import broker, database, debts, life, settings
from .findings import ERROR, OK, WARNING, Finding, error

__all__ = ["ERROR", "OK", "WARNING", "Finding", "examine", "examine_here"]


_Parts = Mapping[str, Callable[[], Iterable[Finding]]]


def examine(*, timeout: float = 10.0, using: str = "default") -> list[Finding]:
    """Examine broker, settings, database, signs of life, queues and debts.

    Args:
        timeout: seconds that the canaries have to come back through their queues.
        using: the outbox's database alias.
    """
    far = {"broker": broker.examine}
    canaries = {"queues": lambda: life.examine_queues(timeout=timeout, using=using)}
    return _examine({**far, **_here(using), **canaries})


def examine_here(*, using: str = "default") -> list[Finding]:
    """Examine what needs no broker: settings, database, signs of life and debts."""
    return _examine(_here(using))


def _here(using: str) -> _Parts:
    return {
        "settings": settings.examine,
        "database": lambda: database.examine(using=using),
        "signs of life": lambda: life.examine(using=using),
        "debts": lambda: debts.examine(using=using),
    }


def _examine(parts: _Parts) -> list[Finding]:
    return [finding for name, part in parts.items() for finding in _examined(name, part)]


def _examined(name: str, part: Callable[[], Iterable[Finding]]) -> Iterator[Finding]:
    try:
        yield from part()
    except Exception as caught:  # what is broken must not hide the rest
        yield error(
            name,
            f"It could not be examined: {type(caught).__name__}: {caught}.",
            "Repair this first, then ask again.",
        )
