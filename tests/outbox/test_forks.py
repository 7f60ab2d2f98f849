from __future__ import annotations

import os
import threading
import time

import pytest
from django.db import connection

from outbox.fork_safety import apart_from_forks, once_used
from outbox.ids import uuid7
from tests.processes import eventually


class TestAFork:
    def test_waits_until_a_thread_has_finished_with_the_database(self):
        """Without the lock: a child is born with a write lock of SQLite's that nobody holds."""
        steps: list[str] = []
        thread = threading.Thread(target=use_the_database, args=[begun := threading.Event(), steps])
        thread.start()
        begun.wait()

        fork()
        steps.append("forked")
        thread.join()

        assert steps == ["used", "forked"]

    @pytest.mark.once
    def test_gives_each_child_random_numbers_of_its_own_for_ids(self):
        """Failed with uuid-utils 0.13: two children made the same ids in the same millisecond."""
        uuid7()

        first, second = random_numbers_of_a_child(), random_numbers_of_a_child()

        assert len(first) == len(second) == 10
        assert not first & second


@pytest.mark.once
@pytest.mark.django_db(transaction=True)
class TestCodeThatHangs:
    def test_does_not_stop_others(self):
        """Seen to fail: an alert function that had used SQLite stopped relay, heartbeats, forks."""
        end, hanging = threading.Event(), threading.Event()
        thread = threading.Thread(target=hang, args=[hanging, end])
        thread.start()
        steps: list[str] = []
        other = threading.Thread(target=use_the_database, args=[threading.Event(), steps])
        try:
            hanging.wait()
            other.start()
            eventually(lambda: steps == ["used"], "the use of the database by another thread")
            fork()
        finally:
            end.set()
            thread.join()

        with apart_from_forks():  # the thread that hung has not given it up for another one
            steps.append("used")
        assert steps == ["used", "used"]

    def test_is_waited_for_until_its_time_is_over(self):
        end, hanging = threading.Event(), threading.Event()
        thread = threading.Thread(target=hang, args=[hanging, end, 3600.0])
        thread.start()
        steps: list[str] = []
        other = threading.Thread(target=use_the_database, args=[threading.Event(), steps])
        hanging.wait()
        other.start()
        other.join(timeout=0.3)
        used_before = [*steps]
        end.set()
        other.join()

        assert (used_before, steps) == ([], ["used"])


def hang(hanging: threading.Event, end: threading.Event, at_most: float = 0.2) -> None:
    try:
        with once_used(apart_from_forks, at_most=at_most):
            connection.cursor().execute("SELECT 1")
            hanging.set()
            end.wait()
    finally:
        hanging.set()
        connection.close()


def fork() -> None:
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)


def random_numbers_of_a_child() -> set[str]:
    """Return the ends of ids that a child creates; the time is not among them."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writing, " ".join(uuid7().hex[16:] for _ in range(10)).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as numbers:
        found = set(numbers.read().split())
    os.waitpid(child, 0)
    return found


def use_the_database(begun: threading.Event, steps: list[str]) -> None:
    with apart_from_forks():
        begun.set()
        time.sleep(0.2)
        steps.append("used")
