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
from typing import Any, Generic, TypeVar

from django.db import connections

T = TypeVar("T")


class _Question(threading.Thread, Generic[T]):
    """A thread that asks one database, with connections of its own, which it closes.

    Attributes:
        asked_at: time of its start, by `time.monotonic`.
        is_over: it has ended.
        answers: the answer; none before it came.
        error: what the function that asks has raised.
    """

    def __init__(self, name: str, ask: Callable[[], T]) -> None:
        super().__init__(name=f"outbox-metrics-{name}", daemon=True)
        self.asked_at = time.monotonic()
        self.is_over = False
        self.answers: list[T] = []
        self.error: BaseException | None = None
        self._ask = ask

    def run(self) -> None:
        try:
            self.answers.append(self._ask())
        except BaseException as error:  # the caller raises it
            self.error = error
        finally:
            connections.close_all()
            with _ended:
                self.is_over = True
                _ended.notify_all()


#: The latest question to each database.
_latest: dict[str, _Question[Any]] = {}
#: Guards `_latest`, and is notified when a question has ended.
_ended = threading.Condition()


def ask_each(questions: Mapping[str, Callable[[], T]], *, seconds: float) -> dict[str, T]:
    """Ask all at the same time; return the answers that came in time.

    A database that has not answered an earlier question within the time limit is not asked again:
    it has no answer. While an earlier question is younger, it is waited for, and then asked again.

    Args:
        questions: by the name of a database, a function that asks it. It runs in another thread.
        seconds: time limit of all answers together, and of each question.

    Raises:
        Exception: a function has raised it. All others have ended then, or their time is over.
    """
    until = time.monotonic() + seconds
    asked = _start_each(questions, until, seconds)
    for question in asked.values():
        question.join(max(0.0, until - time.monotonic()))
    for question in asked.values():
        if question.error is not None:
            raise question.error
    return {name: answer for name, question in asked.items() for answer in question.answers}


def _start_each(
    questions: Mapping[str, Callable[[], T]], until: float, seconds: float
) -> dict[str, _Question[T]]:
    """Start all questions, those to a busy database when it has answered the earlier one."""
    started: dict[str, _Question[T]] = {}
    left = dict(questions)
    with _ended:
        while True:
            for name in [one for one in left if _is_free(one)]:
                started[name] = _started(name, left.pop(name))
            now = time.monotonic()
            limits = {name: min(_latest[name].asked_at + seconds, until) for name in left}
            left = {name: ask for name, ask in left.items() if now < limits[name]}
            if not left:
                return started
            _ended.wait(min(limits[name] for name in left) - now)


def _is_free(name: str) -> bool:
    before = _latest.get(name)
    return before is None or before.is_over


def _started(name: str, ask: Callable[[], T]) -> _Question[T]:
    made = _Question(name, ask)
    made.start()
    _latest[name] = made
    return made


def _forget() -> None:
    # A forked child has none of these threads, and its copy of the lock may be held for ever.
    global _ended
    _ended = threading.Condition()
    _latest.clear()


os.register_at_fork(after_in_child=_forget)
