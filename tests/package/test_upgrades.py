"""Each release is upgraded to the next while processes of both run, and is rolled back."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from itertools import groupby, pairwise
from typing import Any

import pytest

from tests.databases import fresh_database
from tests.package.built import Distribution
from tests.package.deployment import CEILING, Deployment, Site
from tests.package.releases import Release, ReleaseUnavailable, releases
from tests.servers import fixtures
from tests.servers.brokers import ValkeyServer

pytestmark = [pytest.mark.processes, pytest.mark.timeout(900)]

valkey = fixtures.valkey

Build = Callable[[Release | None], Distribution]

#: None is this checkout.
STEPS = [*pairwise([*releases(), None])]
PARCELS = [f"parcel-{number}" for number in range(8)]
#: Handlers of `Moved`, with the effects of one event. Only the atomic ones have each effect once.
ATOMIC = {"record": 1, "record_in_order": 1, "record_inline": 1, "label": 2, "call": 1}
EXTERNAL = {"publish": 1, "publish_in_order": 1}
#: The only handler of each other event.
OTHERS = {
    "Refused": "accept",
    "Postponed": "retry",
    "Held": "hold",
    "Stopped": "stop",
    "Abandoned": "die_once",
    "Reminded": "remind",
}


@dataclass
class Upgrade:
    """The rows that each part of an upgrade has left."""

    old: Deployment
    new: Deployment
    states_before: set[str] = field(default_factory=set)
    pruned: int = 0
    reversal: str = ""
    handled_after_reversal: int = 0

    @property
    def site(self) -> Site:
        return self.old.site

    def entries(self) -> list[tuple[Any, ...]]:
        """Return handler, event, parcel, number, target and both releases, in the order of rows."""
        return self.site.rows(
            "SELECT handler, event, parcel, number, target, emitted_with, handled_with "
            "FROM depot_entry ORDER BY id"
        )

    def crossings(self) -> set[tuple[str, str]]:
        """Return the pairs of releases that emitted and handled an event."""
        return {(emitted, handled) for *_, emitted, handled in self.entries()}

    def run(self) -> None:
        self._leave_rows()
        self.states_before = {state for state, _ in self.site.outstanding()}
        self.new.manage("migrate", "--verbosity", "0")
        self._run_side_by_side()
        self._roll_back()
        self._reverse_migrations()

    def _leave_rows(self) -> None:
        """Let the old release leave rows in each state, and a worker in the middle of a handler."""
        old = self.old
        old.manage("migrate", "--verbosity", "0")
        old.manage("outbox", "pause", "depot.hold", "--reason", "a test")
        relay, _worker = old.start_relay(), old.start_worker()
        old.emit("Moved", *PARCELS[:2], options=("--times", "3"))
        old.emit("Refused Postponed Held", *PARCELS[:2])
        self.site.waits_until(_HAS_ALL_STATES, "dead, postponed and parked deliveries")
        self.site.waits_until(_HAS_MOVED, "the first parcels were moved")
        dying = old.start_worker("depot.abandoned")
        old.emit("Abandoned", PARCELS[0])
        dying.ends(within=CEILING)
        old.emit("Stopped", PARCELS[0], options=("--times", "2"))
        self.site.waits_for("stopped")
        old.emit("Moved", *PARCELS, options=("--times", "2"))
        self.site.waits_until(_IS_FANNED_OUT, "messages are sent to the busy worker")
        old.stop(relay)
        old.emit("Moved", *PARCELS)
        old.emit("Reminded", *PARCELS[:3], options=("--delay", "0.1"))

    def _run_side_by_side(self) -> None:
        """Run both releases until each has handled events of both; operate rows with both."""
        old, new = self.old, self.new
        for one in (old, new):
            one.start_relay()
        new.start_worker()
        new.start_worker("depot.abandoned")
        self.site.signal("go")
        for _round in range(20):
            emitting = [one.start_emitting("Moved", *PARCELS, times=3) for one in (old, new)]
            for program in emitting:
                assert program.ends(within=CEILING) == 0, program.output
            self.site.waits_until(_IS_FANNED_OUT, "all events are fanned out")
            if len(self.crossings()) == 4:
                break
        self.site.signal("accept")
        new.manage("outbox", "resume", "depot.hold", "--reason", "a test")
        new.manage("outbox", "retry", "--dead", "--reason", "a test")
        old.manage("outbox", "retry", "--handler", "depot.retry", "--reason", "a test")
        self.site.settles()
        before = self.site.number(_EVENTS)
        old.manage("outbox", "prune", "--reason", "a test")
        self.pruned = before - self.site.number(_EVENTS)

    def _roll_back(self) -> None:
        """Stop the new release while it owes deliveries, and let the old one continue alone."""
        old, new = self.old, self.new
        old.stop()
        new.emit("Moved", *PARCELS, options=("--times", "2"))
        self.site.waits_until(_IS_FANNED_OUT, "the new release has fanned out")
        new.stop()
        new.emit("Moved", *PARCELS)
        old.manage("migrate", "--verbosity", "0")
        old.start_relay()
        old.start_worker()
        self.site.settles()
        old.stop()

    def _reverse_migrations(self) -> None:
        """Reverse the new release's migrations if nothing is lost; go on with the old release."""
        last = max(path.stem for path in self.old.release.installed.glob("outbox/migrations/0*.py"))
        self.reversal = self.new.reverse(last)
        before = len(self.entries())
        self.old.emit("Moved", *PARCELS)
        self.old.start_relay()
        self.old.start_worker()
        self.site.settles()
        self.old.stop()
        self.handled_after_reversal = len(self.entries()) - before


_EVENTS = "SELECT count(*) FROM outbox_event"
_HAS_ALL_STATES = """
SELECT 1 WHERE (SELECT count(*) FROM outbox_delivery WHERE state = 'dead') = 2
AND (SELECT count(*) FROM outbox_delivery WHERE state = 'parked') = 2
AND (SELECT count(*) FROM outbox_delivery WHERE state = 'pending' AND attempts = 1) = 2"""
_HAS_MOVED = "SELECT 1 WHERE (SELECT count(*) FROM depot_entry WHERE handler = 'label') = 12"
_IS_FANNED_OUT = """
SELECT 1 WHERE NOT EXISTS (SELECT 1 FROM outbox_event WHERE fanned_out_at IS NULL)"""


@pytest.fixture(scope="session")
def build(distribution: Distribution, tmp_path_factory: pytest.TempPathFactory) -> Build:
    """Return a function that returns the distribution of a release, or of this checkout.

    Each release is built once.
    """

    @cache
    def build_once(release: Release | None) -> Distribution:
        if release is None:
            return distribution
        try:
            return release.build(tmp_path_factory.mktemp(f"release-{release.version}"))
        except ReleaseUnavailable as reason:
            pytest.skip(str(reason))

    return build_once


@pytest.fixture(scope="module", params=STEPS, ids=lambda step: step[0].version)
def upgrade(
    request: pytest.FixtureRequest,
    build: Build,
    valkey: ValkeyServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Upgrade]:
    old, new = map(build, request.param)
    with fresh_database() as database:
        site = Site(database, valkey.url, tmp_path_factory.mktemp("site"))
        one = Upgrade(Deployment(old, site), Deployment(new, site))
        try:
            one.run()
            yield one
        finally:
            one.old.stop()
            one.new.stop()


def emitted(site: Site) -> dict[tuple[str, str], int]:
    """Return how many events of a kind were emitted for a parcel, by the emitters' book."""
    rows = site.rows("SELECT event, parcel, number FROM depot_parcel")
    return {(event, parcel): number for event, parcel, number in rows}


def expected(site: Site) -> Counter[tuple[str, str, int]]:
    """Return how many effects each handler owes for an event: (handler, parcel, number)."""
    effects: Counter[tuple[str, str, int]] = Counter()
    for (event, parcel), last in emitted(site).items():
        handlers = {**ATOMIC, **EXTERNAL} if event == "Moved" else {OTHERS[event]: 1}
        for handler, times in handlers.items():
            for number in range(1, last + 1):
                effects[handler, parcel, number] = times
    return effects


class TestAnUpgrade:
    def test_begins_with_rows_in_each_state(self, upgrade: Upgrade):
        states = {"pending", "sent", "dead", "parked", "blocked", "waiting", "delayed"}

        assert upgrade.states_before == states

    def test_loses_no_event(self, upgrade: Upgrade):
        found = {(handler, parcel, number) for handler, _, parcel, number, *_ in upgrade.entries()}

        assert found == set(expected(upgrade.site))

    def test_runs_no_atomic_handler_twice(self, upgrade: Upgrade):
        found = Counter(
            (handler, parcel, number)
            for handler, _, parcel, number, *_ in upgrade.entries()
            if handler not in EXTERNAL
        )

        assert found == Counter(
            {key: times for key, times in expected(upgrade.site).items() if key[0] not in EXTERNAL}
        )

    @pytest.mark.parametrize("handler", ["record_in_order", "publish_in_order", "stop"])
    def test_keeps_the_order_of_each_key(self, upgrade: Upgrade, handler: str):
        rows = sorted(
            (parcel, position, number)
            for position, (name, _, parcel, number, *_) in enumerate(upgrade.entries())
            if name == handler
        )

        assert rows
        for parcel, of_parcel in groupby(rows, key=lambda row: row[0]):
            numbers = [number for *_, number in of_parcel]
            assert numbers == sorted(numbers), parcel

    def test_lets_each_release_handle_the_events_of_both(self, upgrade: Upgrade):
        both = {upgrade.old.version, upgrade.new.version}

        assert upgrade.crossings() == {(emitted, handled) for emitted in both for handled in both}

    def test_lets_the_earlier_release_prune(self, upgrade: Upgrade):
        assert upgrade.pruned > 0

    def test_can_be_rolled_back_with_and_without_its_migrations(self, upgrade: Upgrade):
        refusal = r"CommandError: Migration outbox\.\d{4}_\w+ cannot be reversed: .+\n"

        assert upgrade.reversal == "" or re.fullmatch(refusal, upgrade.reversal)
        assert upgrade.handled_after_reversal >= len(PARCELS)


@pytest.mark.postgresql
class TestTwoReleasesThatStartDeliveriesOfOneKey:
    """The start of a later event is not committed yet, and an earlier one is replayed and sent.

    The earlier release calls the ordered handler for each delivery, the later one in bulk.
    """

    @pytest.fixture(params=releases(), ids=lambda release: release.version)
    def deployments(
        self,
        request: pytest.FixtureRequest,
        build: Build,
        distribution: Distribution,
        tmp_path_factory: pytest.TempPathFactory,
    ) -> Iterator[tuple[Deployment, Deployment]]:
        release = build(request.param)
        with fresh_database() as database:
            site = Site(database, "memory://", tmp_path_factory.mktemp("site"))
            old = Deployment(release, site)
            new = Deployment(distribution, site, variables={"CARRY_IN_BULK": "1"})
            try:
                yield old, new
            finally:
                old.stop()
                new.stop()

    @pytest.mark.parametrize("is_old_first", [True, False], ids=["old first", "new first"])
    def test_run_one_of_them(self, deployments: tuple[Deployment, Deployment], is_old_first: bool):
        old, _new = deployments
        for one in deployments:
            one.manage("migrate", "--verbosity", "0")
        old.emit("Carried", PARCELS[0], options=("--times", "2"))
        old.manage("outbox", "relay", "--once")
        site, (first, second) = old.site, (deployments if is_old_first else deployments[::-1])
        site.rows(_SETTLED)
        site.rows(_SENT.format(which="max"))

        later = first.deliver("first", "depot.carry", site.message("max"))
        site.waits_for("before_start.first")
        site.rows(_SENT.format(which="min"))
        site.signal("start.second")
        earlier = second.deliver("second", "depot.carry", site.message("min"))
        site.waits_until(_IS_BLOCKED, "the second start waits for a lock")
        site.signal("start.first")
        assert earlier.ends(within=CEILING) == 0, earlier.output
        site.signal("carry")
        assert later.ends(within=CEILING) == 0, later.output

        assert site.rows("SELECT number FROM depot_entry") == [(2,)]
        states = site.rows("SELECT state FROM outbox_delivery ORDER BY event_id")
        assert states == [("pending",), ("done",)], "The end of the later one releases the earlier."


_SETTLED = """
UPDATE outbox_delivery SET state = 'done', order_key = NULL, settled_at = now()
WHERE event_id = (SELECT min(seq) FROM outbox_event) RETURNING id"""
_SENT = """
UPDATE outbox_delivery
SET state = 'sent', token = token + 1, settled_at = NULL, due_at = now() + interval '1 hour',
    order_key = (SELECT key FROM outbox_event WHERE seq = event_id)
WHERE event_id = (SELECT {which}(seq) FROM outbox_event) RETURNING id"""
_IS_BLOCKED = """
SELECT 1 FROM pg_stat_activity
WHERE datname = current_database() AND wait_event_type = 'Lock' AND wait_event = 'advisory'"""
