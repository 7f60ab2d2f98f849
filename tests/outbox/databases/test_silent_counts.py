"""Counts of a process are stored although one of several databases does not answer."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator

import pytest

from outbox import databases
from outbox.counting import buffer
from outbox.counting.buffer import Buffer, Tallies
from tests.outbox.two_databases import BOTH, SHARD
from tests.processes import eventually
from tests.threads import PATIENCE, in_thread


class Store:
    """Stores counts, those of the default database when it answers."""

    def __init__(self) -> None:
        self.stored: Counter[str] = Counter()
        self.waiting = 0
        self.over = threading.Event()

    def __call__(self, tallies: Tallies[str]) -> None:
        using = databases.alias()
        if using == "default":
            self.waiting += 1
            self.over.wait(PATIENCE)
            self.waiting -= 1
        self.stored[using] += sum(tally.total() for tally in tallies.values())


@pytest.fixture
def store() -> Iterator[Store]:
    made = Store()
    yield made
    made.over.set()
    eventually(lambda: not made.waiting, "the end of the threads that store")


def count(counts: Buffer[str], *aliases: str) -> None:
    for using in aliases:
        with databases.working_on(using):
            counts.add({"place": Counter(part=1)})


@pytest.mark.usefixtures("shard")
class TestCountsBesideASilentDatabase:
    def test_can_be_stored_while_another_write_waits(self, store: Store):
        """Failed: that write had taken the counts of all databases."""
        counts = Buffer(store)
        with buffer.without_threads():
            count(counts, *BOTH)
            end = in_thread(counts.write)
            eventually(lambda: store.waiting, "the write waits")

            counts.write(SHARD)

            assert store.stored == {SHARD: 1}
            store.over.set()
            end()
        assert store.stored == {"default": 1, SHARD: 1}

    @pytest.mark.postgresql  # one thread at a time uses SQLite
    def test_are_stored_by_a_thread_of_their_own(
        self, store: Store, monkeypatch: pytest.MonkeyPatch
    ):
        """Failed: one thread stored all, and another was started for new counts while it waited."""
        monkeypatch.setattr(buffer, "_has_threads", True)
        monkeypatch.setattr(buffer, "_EVERY_SECONDS", 0.01)
        counts = Buffer(store)
        count(counts, *BOTH)
        eventually(lambda: store.waiting, "the thread of the silent one waits")
        count(counts, *BOTH)
        eventually(lambda: store.stored == {SHARD: 2}, "the counts of the other")

        assert store.waiting == 1
        store.over.set()
        eventually(lambda: store.stored == {"default": 2, SHARD: 2}, "all counts")
