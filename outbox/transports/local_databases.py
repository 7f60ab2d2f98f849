"""Several databases in one process without a broker: one pool of threads for all of them.

Each database has a local transport of its own, with its relay's intake. The items of the pool carry
their database: a message by name, a started delivery by its row.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from outbox import databases

from .base import Message
from .local import LocalTransport, Started, database_of
from .pool import Pool


class LocalTransports:
    """The local transports of a process, by database, and the pool that they share.

    Args:
        size: number of threads of the pool.
        build: builds the transport of a database, with this pool and the number that share it.
    """

    def __init__(
        self, size: int, build: Callable[[str, Pool[Started | Message] | None, int], LocalTransport]
    ) -> None:
        places = databases.aliases()
        if len(places) == 1:
            self.each: Mapping[str, LocalTransport] = {places[0]: build(places[0], None, 1)}
            self.pool = self.each[places[0]].pool
        else:
            self.pool = Pool(size, self._run, after=self._refill)
            self.each = {one: build(one, self.pool, len(places)) for one in places}
        self._first = self.each[places[0]]

    def work(self) -> None:
        """Run deliveries in the calling thread until the pool is closed."""
        self._first.work()

    def _of(self, item: Started | Message) -> LocalTransport:
        return self.each.get(database_of(item) or "", self._first)

    def _run(self, item: Started | Message) -> None:
        self._of(item).run_item(item)

    def _refill(self, item: Started | Message) -> None:
        """Nudge each relay whose deliveries may wait for the thread that is idle now."""
        for transport in self.each.values():
            transport.refill_after(item if transport is self._of(item) else None)
