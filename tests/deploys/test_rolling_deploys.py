"""Two releases of a project run side by side under load.

The new release has a new version of an event, a renamed handler, a new handler and a new column.
No request fails, no event is lost, and no handler runs twice, whichever processes are replaced
first. Upgrades of the outbox itself are in `tests/package/test_upgrades.py`.
"""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.databases import fresh_database
from tests.deploys.customers import Customers
from tests.deploys.release import Release
from tests.package.deployment import CEILING, Site
from tests.processes import eventually
from tests.servers import fixtures

pytestmark = [
    # A shop that is deployed without a pause does not run on SQLite, and each deploy takes 40 s.
    *(pytest.mark.processes, pytest.mark.postgresql),
    pytest.mark.timeout(900),
]

valkey = fixtures.valkey

#: Orders of each kind until the next step of a deploy.
SOME = 10
#: Effects of each order, by every release.
EFFECTS = {"book", "charge", "receipt", "announce"}
AMOUNT = 1280


@dataclass
class Rollout:
    """A site with both releases, and customers who place orders meanwhile."""

    old: Release
    new: Release
    customers: Customers

    @property
    def site(self) -> Site:
        return self.old.site

    def begin(self) -> None:
        """Let the old release work alone."""
        self.old.migrate()
        self.old.start_web()
        self.old.start_workers()
        self.customers.start()
        self.waits_for_entries("emitted_with = 'old' AND handled_with = 'old'")

    def end(self) -> None:
        """Stop the customers, and wait until nothing is owed."""
        self.customers.stop()
        self.site.settles()
        self.stop()

    def stop(self) -> None:
        self.customers.stop()
        for one in (self.old, self.new):
            one.stop_web()
            one.stop_workers()

    def replace_web(self, old: Release, new: Release) -> None:
        """Replace the web servers of a release, while both accept requests."""
        new.start_web()
        self.waits_for_orders_of(new)
        old.stop_web()
        self.waits_for_orders_of(new)

    def replace_workers(self, old: Release, new: Release) -> None:
        """Replace the relay and the workers of a release, while both work."""
        new.start_workers()
        self.waits_for_entries(f"handled_with = '{new.name}'")
        old.stop_workers()
        self.waits_for_entries(f"handled_with = '{new.name}'")

    def waits_for_orders_of(self, release: Release) -> None:
        """Wait until a release has accepted some more orders."""
        wanted = self.customers.accepted_by()[release.name] + SOME
        self._waits(
            lambda: self.customers.accepted_by()[release.name] >= wanted,
            f"{wanted} orders of the {release.name} release",
        )

    def waits_for_entries(self, condition: str) -> None:
        """Wait until handlers have written entries of some more orders that meet a condition."""
        number = f"SELECT count(*) FROM till_entry WHERE {condition}"
        wanted = self.site.number(number) + SOME * len(EFFECTS)
        self._waits(
            lambda: self.site.number(number) >= wanted,
            f"{wanted} entries with {condition}; owed: {self.site.outstanding()}",
        )

    def _waits(self, condition: Callable[[], bool], what: str) -> None:
        eventually(lambda: self.customers.failures or condition(), what, within=CEILING)
        assert self.customers.failures == [], "A request failed."

    def entries(self) -> list[tuple[Any, ...]]:
        return self.site.rows(
            'SELECT effect, "order", amount, emitted_with, handled_with FROM till_entry'
        )

    def calls(self) -> Counter[str]:
        """Return how many calls outside there were for each order."""
        return Counter((self.site.folder / "calls").read_text().splitlines())


def workers_first(rollout: Rollout) -> None:
    """The documented order. Old web servers emit, and new workers handle."""
    rollout.new.migrate()
    rollout.replace_workers(rollout.old, rollout.new)
    rollout.waits_for_entries("emitted_with = 'old' AND handled_with = 'new'")
    rollout.replace_web(rollout.old, rollout.new)
    rollout.waits_for_entries("emitted_with = 'new' AND handled_with = 'new'")


def web_first(rollout: Rollout) -> None:
    """The reverse order. New web servers emit what no worker can read yet."""
    rollout.new.migrate()
    rollout.replace_web(rollout.old, rollout.new)
    rollout.site.waits_until(_IS_HANDED_BACK, "an old worker hands back events of the new version")
    rollout.replace_workers(rollout.old, rollout.new)
    rollout.waits_for_entries("emitted_with = 'new' AND handled_with = 'new'")


#: What carries messages, and a deploy beside it.
DEPLOYS = [
    ("celery", web_first),
    ("celery", workers_first),
    ("local", workers_first),
    ("local", web_first),
]

_IS_HANDED_BACK = """
SELECT 1 FROM outbox_delivery d JOIN outbox_event e ON e.seq = d.event_id
WHERE e.name = 'till.OrderPlaced' AND e.version = 2 AND d.token > 1 AND d.attempts = 0
AND d.state <> 'done'"""


@pytest.fixture(
    scope="module", params=DEPLOYS, ids=[f"{name}-{deploy.__name__}" for name, deploy in DEPLOYS]
)
def rollout(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Rollout]:
    transport, deploy = request.param
    broker = request.getfixturevalue("valkey").url if transport == "celery" else ""
    with fresh_database() as database, socket.create_server(("127.0.0.1", 0)) as listener:
        site = Site(database, broker, tmp_path_factory.mktemp("site"))
        old, new = Release("old", site, listener), Release("new", site, listener)
        one = Rollout(old, new, Customers(listener.getsockname()[1]))
        try:
            one.begin()
            deploy(one)
            one.end()
            yield one
        finally:
            one.stop()


class TestARollingDeploy:
    def test_fails_no_request(self, rollout: Rollout):
        assert rollout.customers.failures == []
        assert set(rollout.customers.accepted_by()) == {"old", "new"}

    def test_loses_no_event(self, rollout: Rollout):
        placed = set(rollout.customers.placed)

        assert {(effect, order) for effect, order, *_ in rollout.entries()} >= {
            (effect, order) for effect in EFFECTS for order in placed
        }
        assert {order for _, order, *_ in rollout.entries()} == placed

    def test_runs_no_handler_twice(self, rollout: Rollout):
        found = Counter((effect, order) for effect, order, *_ in rollout.entries())

        assert {key: times for key, times in found.items() if times > 1} == {}
        assert rollout.calls() == Counter(list(rollout.customers.placed))

    def test_uses_up_no_attempt(self, rollout: Rollout):
        found = rollout.site.rows(
            "SELECT outcome, exception, message, worker, started_at, ended_at FROM outbox_attempt"
        )

        assert found == []

    def test_reads_each_version_of_an_event(self, rollout: Rollout):
        charged = {amount for effect, _, amount, *_ in rollout.entries() if effect == "charge"}

        assert charged == {AMOUNT}

    def test_lets_only_new_workers_read_a_new_version(self, rollout: Rollout):
        found = {
            (emitted, handled)
            for effect, *_, emitted, handled in rollout.entries()
            if effect == "charge"
        }

        assert ("new", "new") in found
        assert ("new", "old") not in found

    def test_runs_the_new_handler_for_each_order_of_the_new_release(self, rollout: Rollout):
        thanked = {order for effect, order, *_ in rollout.entries() if effect == "thank"}
        of_new = {order for order, release in rollout.customers.placed.items() if release == "new"}

        assert thanked >= of_new
