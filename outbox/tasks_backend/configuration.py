"""The queues of Django's setting TASKS whose backend is the outbox, and their options."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from django.core.exceptions import ImproperlyConfigured

from .events import event_name

#: Options of a queue: those of `@subscribe` for a handler that calls one function at a time.
_OPTIONS = frozenset(
    {
        "atomic",
        "attempts",
        "backoff_base",
        "backoff_cap",
        "batch",
        "breaker",
        "lease",
        "queue",
        "rules",
        "time_limit",
        "window",
    }
)
#: Seconds. Tasks run longer than handlers, and cannot extend their lease.
_TIME_LIMIT = 300.0
#: So many tasks of a queue are with the broker and the workers, where no priority applies.
_WINDOW = 100
#: The time limit as a part of the lease, as for handlers.
_WITHIN_LEASE = 0.9
#: Characters that are part of no selector of events.
_NAME = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")
_LONGEST_NAMES = 100


@dataclass(frozen=True, kw_only=True)
class TaskQueue:
    """A queue of a backend.

    Attributes:
        backend: alias of the backend in TASKS.
        name: name of the queue.
        options: the arguments of `@subscribe` for its handler.
    """

    backend: str
    name: str
    options: Mapping[str, Any] = field(hash=False)

    @property
    def handler(self) -> str:
        """The pinned name of its handler."""
        return handler_name(self.backend, self.name)

    @property
    def event(self) -> str:
        """The name of its events."""
        return event_name(self.backend, self.name)

    @property
    def is_atomic(self) -> bool:
        """Whether a task runs in one transaction with its receipt."""
        return bool(self.options["atomic"])


def handler_name(backend: str, queue: str) -> str:
    """Return the pinned name of the handler that runs the tasks of a queue."""
    return f"tasks.{backend}.{queue}"


def queues_of(alias: str, params: Mapping[str, Any]) -> Iterator[TaskQueue]:
    """Yield the queues of a backend.

    Args:
        alias: the backend's alias in TASKS.
        params: its settings.

    Raises:
        ImproperlyConfigured: a queue has no valid name, or an option is unknown.
    """
    where = f'TASKS["{alias}"]'
    names = list(params.get("QUEUES", ["default"]))
    if not names:
        raise ImproperlyConfigured(
            f'{where}["QUEUES"] is empty. Name each queue: a handler of its own runs its tasks.'
        )
    shared = dict(params.get("OPTIONS", {}))
    by_queue = shared.pop("queues", {})
    if unknown := [one for one in by_queue if one not in names]:
        raise ImproperlyConfigured(
            f'{where}["OPTIONS"]["queues"] names {unknown[0]!r}, which is not in QUEUES. '
            f"QUEUES has {', '.join(map(repr, sorted(names)))}."
        )
    for name in names:
        _refuse_bad_names(where, alias, name)
        _refuse_unknown(f'{where}["OPTIONS"]', shared)
        own = by_queue.get(name, {})
        _refuse_unknown(f'{where}["OPTIONS"]["queues"]["{name}"]', own)
        yield TaskQueue(backend=alias, name=name, options=_options(name, {**shared, **own}))


def _options(name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    options = {"atomic": False, "batch": 1, "window": _WINDOW, "queue": name, **given}
    if "lease" not in options:
        limit = options.setdefault("time_limit", _TIME_LIMIT)
        options["lease"] = limit / _WITHIN_LEASE if isinstance(limit, int | float) else None
    return options


def _refuse_bad_names(where: str, alias: str, queue: str) -> None:
    parts: tuple[tuple[str, object], ...] = (("alias", alias), ("queue", queue))
    for part, name in parts:
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise ImproperlyConfigured(
                f"{where}: the {part} {name!r} must consist of letters, digits, _, - and dots "
                "between them. It is part of an event's name."
            )
    if len(alias) + len(queue) > _LONGEST_NAMES:
        raise ImproperlyConfigured(
            f"{where}: the alias and the queue {queue!r} have {len(alias) + len(queue)} "
            f"characters together, and {_LONGEST_NAMES} at most can be stored."
        )


def _refuse_unknown(where: str, given: Mapping[str, Any]) -> None:
    if unknown := sorted(set(given) - _OPTIONS):
        raise ImproperlyConfigured(
            f"{where} has no option {unknown[0]!r}. The options are {', '.join(sorted(_OPTIONS))}."
        )
