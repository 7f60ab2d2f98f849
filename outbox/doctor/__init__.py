"""The doctor: looks at the running system and says in sentences what is wrong and what to do.

It works with whatever is down: each part is examined by itself, and a part that cannot be examined
is a finding too.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

from outbox import databases
from outbox.transports.celery import QUEUE

from . import broker, database, debts, life, queues, settings
from .findings import ERROR, OK, WARNING, Finding, error

__all__ = ["ERROR", "OK", "WARNING", "Finding", "examine", "examine_here", "probe"]


_Parts = Mapping[str, Callable[[], Iterable[Finding]]]


def examine(*, timeout: float = 10.0, using: str | None = None) -> list[Finding]:
    """Examine broker, settings, database, signs of life, queues and debts.

    Args:
        timeout: seconds that the canaries have to come back through their queues.
        using: the outbox's database alias.
    """
    using = using or databases.alias()
    far = {"broker": broker.examine}
    return _examine({**far, **_here(using), **_canaries(None, timeout=timeout, using=using)})


def probe(
    wanted: Collection[str], *, worker: str = "", timeout: float = 10.0, using: str | None = None
) -> list[Finding]:
    """Examine who consumes these queues, and nothing else: the probe of one worker.

    A queue whose workers are busy, within their leases, is consumed. With the relay's queue among
    them the relay must live as well.

    Args:
        wanted: names of queues.
        worker: the name of one worker, such as "inventory@host", which must live and consume them.
        timeout: seconds that the canaries have to come back.
        using: the outbox's database alias.
    """
    using = using or databases.alias()
    parts = _canaries(wanted, timeout=timeout, using=using)
    if QUEUE in wanted:
        parts["relay"] = lambda: life.examine_relay(using=using)
    if worker:
        parts["worker"] = lambda: queues.examine_worker(worker, queues=wanted, using=using)
    return _examine(parts)


def examine_here(*, using: str | None = None) -> list[Finding]:
    """Examine what needs no broker: settings, database, signs of life and debts."""
    using = using or databases.alias()
    return _examine(_here(using))


def _canaries(
    wanted: Collection[str] | None, *, timeout: float, using: str
) -> dict[str, Callable[[], Iterable[Finding]]]:
    """Return the part that sends them through the wanted queues, or through all."""

    def part() -> Iterable[Finding]:
        names = queues.all_queues(using=using) if wanted is None else wanted
        return queues.examine(names, timeout=timeout, using=using)

    return {"queues": part}


def _here(using: str) -> _Parts:
    return {
        "settings": lambda: settings.examine(using=using),
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
