"""Ask several databases at the same time, each in a thread of its own and within a time limit.

A database that does not answer may hold its thread for minutes: a frozen server accepts
connections, and answers none of them. So the caller does not wait for its end. Until that end the
database gets no other thread. So repeated questions during an outage start no more threads.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping
from typing import Generic, TypeVar

from django.db import connections

T = TypeVar("T")


class _Question(threading.Thread, Generic[T]):
    """A thread that asks one database, with connections of its own, which it closes.

    Attributes:
        is_late: its caller has gone on without the answer.
    """

    def __init__(self, name: str, ask: Callable[[], T]) -> None:
        super().__init__(name=f"outbox-metrics-{name}", daemon=True)
        self.is_late = False
        self._ask = ask
        self._answers: list[T] = []
        self._error: BaseException | None = None

    def run(self) -> None:
        try:
            self._answers.append(self._ask())
        except BaseException as error:  # the caller raises it
            self._error = error
        finally:
            connections.close_all()

    def answer(self, until: float) -> list[T]:
        """Return the answer in a list; an empty one if there is none at this time.

        Raises:
            Exception: the function that asks has raised it.
        """
        self.join(max(0.0, until - time.monotonic()))
        if self.is_alive():
            self.is_late = True
            return []
        if self._error is not None:
            raise self._error
        return self._answers


#: The latest question to each database, and the lock of this dictionary.
_latest: dict[str, _Question[object]] = {}
_lock = threading.Lock()


def ask_each(questions: Mapping[str, Callable[[], T]], *, seconds: float) -> dict[str, T]:
    """Ask all at the same time; return the answers that came in time.

    A question that still waits for an earlier answer is not asked again: it has no answer. One that
    another thread has asked within the time limit is waited for, and then asked again.

    Args:
        questions: by the name of a database, a function that asks it. It runs in another thread.
        seconds: time limit of all answers together.

    Raises:
        Exception: a function has raised it.
    """
    until = time.monotonic() + seconds
    asked = {name: _asked(name, ask, until) for name, ask in questions.items()}
    found: dict[str, T] = {}
    for name, question in asked.items():
        for answer in question.answer(until) if question is not None else ():
            found[name] = answer
    return found


def _asked(name: str, ask: Callable[[], T], until: float) -> _Question[T] | None:
    """Start a question; return None if an earlier one still waits for its answer."""
    while True:
        with _lock:
            before = _latest.get(name)
            if before is None or not before.is_alive():
                made = _Question(name, ask)
                _latest[name] = made  # type: ignore[assignment]  # its answer is not read here
                made.start()
                return made
        if before.is_late or time.monotonic() >= until:
            return None
        before.join(max(0.0, until - time.monotonic()))


def _forget() -> None:
    # A forked child has none of these threads, and its copy of the lock may be held for ever.
    global _lock
    _lock = threading.Lock()
    _latest.clear()


os.register_at_fork(after_in_child=_forget)
