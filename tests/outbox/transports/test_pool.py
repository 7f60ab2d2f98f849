"""The pool of a process without a broker: what it takes, and what it hands back."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from outbox.transports import pool as pool_module
from outbox.transports.pool import Pool, _Waiting
from tests.processes import eventually


class Work:
    """Items that wait until they are released.

    Attributes:
        begun: the items in the order in which they began.
    """

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.go_on = threading.Event()

    def __call__(self, item: str) -> None:
        self.begun.append(item)
        assert self.go_on.wait(60)

    def wait_for(self, number: int) -> None:
        eventually(lambda: len(self.begun) == number, f"{number} begun")


@contextmanager
def running(pool: Pool[str], work: Work) -> Iterator[None]:
    threads = [threading.Thread(target=pool.work, daemon=True) for _ in range(pool.size)]
    for thread in threads:
        thread.start()
    with ExitStack() as cleanup:
        for thread in threads:
            cleanup.callback(thread.join, 30)
        cleanup.callback(pool.close)
        cleanup.callback(work.go_on.set)
        yield


class TestAPool:
    def test_takes_one_item_for_each_thread_until_it_knows_that_items_take_short(self):
        """Seen to fail with a first average of 0: it would claim what others could run."""
        assert Pool[str](3, Work()).free() == 3 * 2

    def test_takes_none_ahead_while_items_take_long(self):
        pool = Pool[str](2, Work())

        pool._note(10.0)

        assert pool.free() == 2 + 1  # `_note` ended an item that had not begun

    def test_takes_more_ahead_while_items_take_short(self):
        pool, quick = Pool[str](1, lambda item: None), 40
        for number in range(quick):
            pool.put(str(number))
        thread = threading.Thread(target=pool.work, daemon=True)
        thread.start()

        def takes_most() -> bool:
            if pool.free() == 1 + pool_module._MOST_AHEAD:
                return True
            pool.put("another")  # one whose thread had to wait for a processor is outweighed
            return False

        eventually(takes_most, "it takes most")
        pool.close()
        thread.join(60)

    def test_takes_none_while_its_threads_do_not_move(self, monkeypatch: pytest.MonkeyPatch):
        """Seen to fail without `is_still`: quick items would wait behind a slow one."""
        monkeypatch.setattr(pool_module, "_STILL_SECONDS", 0.0)
        work = Work()
        pool = Pool[str](1, work)
        pool._seconds = 1e-4

        with running(pool, work):
            pool.put("slow")
            work.wait_for(1)

            eventually(lambda: pool.free() == 0, "nothing is taken")

    def test_keeps_a_reserved_thread_idle_for_its_item(self):
        """Seen to fail without the reservation: a started delivery waits behind a message."""
        work = Work()
        pool = Pool[str](1, work)
        pool.reserve()

        with running(pool, work):
            pool.put("message")
            assert not pool.is_idle
            assert not pool._may_take
            pool.put_reserved("started")
            work.wait_for(1)
            work.go_on.set()
            work.wait_for(2)

        assert work.begun == ["started", "message"]

    def test_runs_other_items_after_a_reservation_is_released(self):
        work = Work()
        pool = Pool[str](1, work)
        pool.reserve()

        with running(pool, work):
            pool.put("message")
            pool.release()
            work.wait_for(1)

    def test_gives_back_only_items_that_have_waited(self):
        pool = Pool[str](1, Work())
        pool._waiting.append(_Waiting("old", since=time.monotonic() - 600))
        pool.put("new")

        assert pool.take_back(seconds=600) == ["old"]
        assert pool.take_back() == ["new"]

    def test_begins_no_item_after_it_is_closed(self):
        work = Work()
        pool = Pool[str](1, work)

        with running(pool, work):
            pool.put("running")
            work.wait_for(1)
            pool.put("waiting")
            pool.close()

        assert work.begun == ["running"]
        assert pool.take_back() == ["waiting"]
        assert pool.free() == 0
