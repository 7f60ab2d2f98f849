"""Two releases run at the same time, with different handlers or names."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from io import StringIO
from uuid import UUID, uuid4

import pytest
from django.core.management import call_command
from django.db.models import F
from django.utils import timezone

from outbox import operations, subscribe, subscriptions
from outbox.alerts import problems
from outbox.deliveries.sync import sync_subscriptions
from outbox.doctor import owed
from outbox.models import Delivery, Event, Subscription
from outbox.policy import Breaker
from outbox.subscriptions import Handler
from outbox.testing import Outbox
from outbox.transports.base import Message
from outbox.worker.delivery import deliver
from tests.outbox.drive import run_pass

pytestmark = pytest.mark.usefixtures("own_registry")

Release = list[Handler]


@pytest.fixture
def handled() -> list[str]:
    """The function names of the handlers that ran."""
    return []


@pytest.fixture
def old(handled: list[str]) -> Release:
    """A release with the handler `tests.count`."""

    @subscribe("shops.Ordered")
    def count() -> None:
        handled.append("count")

    return taken()


@pytest.fixture
def renamed(old: Release, handled: list[str]) -> Release:
    """The next release, in which it is called `tests.count_orders`."""

    @subscribe("shops.Ordered", formerly=["tests.count"])
    def count_orders() -> None:
        handled.append("count_orders")

    return taken()


@pytest.fixture
def grown(old: Release, handled: list[str]) -> Release:
    """The next release, which also has the handler `tests.print_label`."""
    subscriptions.registry.extend(old)

    @subscribe("shops.Ordered")
    def print_label(order_id: UUID) -> None:
        handled.append("print_label")

    return taken()


def taken() -> Release:
    """Remove the handlers from the registry: no process runs this release yet."""
    handlers = list(subscriptions.registry)
    subscriptions.registry.clear()
    return handlers


@contextmanager
def running(release: Release) -> Iterator[None]:
    """Act as a process of this release."""
    subscriptions.registry.extend(release)
    try:
        yield
    finally:
        subscriptions.registry.clear()


def migrate(release: Release) -> None:
    with running(release):
        sync_subscriptions()


def emit_order(release: Release) -> None:
    with running(release):
        Outbox().given("shops.Ordered", order_id=uuid4())


def run_pass_of(release: Release) -> list[Message]:
    with running(release):
        return run_pass()


def run_messages_of(release: Release, messages: list[Message]) -> None:
    with running(release):
        for message in messages:
            deliver(
                handler_name=message.handler,
                pairs=message.pairs,
                worker="w1",
                subscription=message.subscription,
            )


def end_backoffs() -> None:
    Delivery.objects.filter(state="pending").update(due_at=F("due_at") - timedelta(minutes=1))


class TestAHandlerThatOnlyTheNextReleaseHas:
    def test_gets_deliveries_from_an_old_relay(self, old: Release, grown: Release):
        """Rule 15. Seen to fail with `subscribers_of` asking the registry of its process."""
        emit_order(grown)

        messages = run_pass_of(old)

        assert {message.handler for message in messages} == {"tests.count", "tests.print_label"}

    def test_is_released_by_an_old_worker_without_an_attempt(
        self, old: Release, grown: Release, handled: list[str]
    ):
        """Rule 15. Seen to fail with the hand-back removed from `deliver`: its lease must pass."""
        emit_order(grown)
        run_messages_of(old, run_pass_of(old))
        assert handled == ["count"]

        end_backoffs()
        run_messages_of(grown, run_pass_of(old))

        assert handled == ["count", "print_label"]
        assert set(Delivery.objects.values_list("state", "attempts")) == {("done", 1)}

    @pytest.mark.parametrize("is_late", [False, True])
    def test_raises_an_alarm_if_no_running_worker_has_it_for_long(
        self, old: Release, grown: Release, is_late: bool
    ):
        """It is due again every five seconds, so a lag by due time finds nothing."""
        migrate(grown)
        emit_order(grown)
        if is_late:
            past = timezone.now() - timedelta(minutes=6)
            Event.objects.update(emitted_at=past)
            Subscription.objects.update(since=past)
        run_messages_of(old, run_pass_of(old))

        alerts = problems.find({"lag": 300.0}, using="default").problems
        with running(grown):
            found = [one for one in owed.examine(using="default") if one.severity == "error"]

        assert list(alerts) == ["lag:tests.print_label:release"] * is_late
        assert [one.advice for one in found] == [
            "Replace the workers of the queue tests by the release that was migrated last."
        ] * is_late
        for text in (*(one.text for one in alerts.values()), *(one.text for one in found)):
            assert "tests.print_label" in text
            assert "w1 has no handler tests.print_label; is its release older?" in text


class TestARenamedHandler:
    def test_gets_deliveries_that_were_sent_under_its_old_name(
        self, old: Release, renamed: Release, handled: list[str]
    ):
        """The new worker releases it without an attempt, and it is sent under the new name."""
        emit_order(old)
        messages = run_pass_of(old)
        migrate(renamed)

        run_messages_of(renamed, messages)
        assert (handled, attempts()) == ([], 0)
        end_backoffs()
        run_messages_of(renamed, run_pass_of(old))

        assert (handled, attempts()) == (["count_orders"], 1)
        assert Delivery.objects.get().state == "done"

    def test_is_left_by_an_old_worker_to_a_new_one(
        self, old: Release, renamed: Release, handled: list[str]
    ):
        migrate(old)
        migrate(renamed)
        emit_order(renamed)
        messages = run_pass_of(renamed)

        run_messages_of(old, messages)
        assert (handled, attempts()) == ([], 0)
        end_backoffs()
        run_messages_of(renamed, run_pass_of(renamed))

        assert (handled, attempts()) == (["count_orders"], 1)

    def test_gets_no_delivery_that_an_old_worker_still_handles(
        self, old: Release, renamed: Release, handled: list[str]
    ):
        """A worker of the old release gets a message that was sent before the migration."""
        emit_order(old)
        messages = run_pass_of(old)
        migrate(renamed)

        run_messages_of(old, messages)
        run_messages_of(renamed, messages)
        end_backoffs()
        run_messages_of(renamed, run_pass_of(renamed))

        assert handled == ["count"]
        assert Delivery.objects.get().subscription.handler == "tests.count_orders"

    def test_retries_deliveries_that_failed_in_an_old_worker(self, old: Release, renamed: Release):
        """Its retry is sent under the new name."""
        emit_order(old)
        run_pass_of(old)
        migrate(renamed)

        Delivery.objects.update(state="pending", attempts=1)  # as `settlement.fail` leaves it
        end_backoffs()

        assert [sent.handler for sent in run_pass_of(old)] == ["tests.count_orders"]


class TestARenameThatIsRolledBack:
    @pytest.fixture
    def rolled_back(self, old: Release, renamed: Release) -> Release:
        """The old release again, after the new one was migrated, and then this one."""
        migrate(old)
        migrate(renamed)
        migrate(old)
        return old

    def test_repeats_no_delivery_when_it_is_deployed_again(
        self, rolled_back: Release, renamed: Release, handled: list[str]
    ):
        """Rule 6. Seen to fail without `join_names`: both names are owed the events in between."""
        emit_order(rolled_back)
        run_messages_of(rolled_back, run_pass_of(rolled_back))
        assert handled == ["count"]

        migrate(renamed)
        run_messages_of(renamed, run_pass_of(renamed))

        assert handled == ["count"]
        assert Subscription.objects.get().handler == "tests.count_orders"
        assert Delivery.objects.get().state == "done"

    def test_loses_no_owed_delivery_when_it_is_deployed_again(
        self, rolled_back: Release, renamed: Release, handled: list[str]
    ):
        emit_order(rolled_back)

        migrate(renamed)
        end_backoffs()
        run_messages_of(renamed, run_pass_of(renamed))

        assert handled == ["count_orders"]
        assert Delivery.objects.get().state == "done"

    def test_resends_deliveries_in_flight_when_it_is_deployed_again(
        self, rolled_back: Release, renamed: Release, handled: list[str]
    ):
        """Its message names a row that is gone. Failed without it: handled after a lease."""
        emit_order(rolled_back)
        messages = run_pass_of(rolled_back)

        migrate(renamed)
        run_messages_of(rolled_back, messages)
        run_messages_of(renamed, run_pass_of(renamed))

        assert handled == ["count_orders"]

    @pytest.mark.parametrize(
        ("under_the_old_name", "under_the_new_name", "kept"),
        [
            ({"state": "done"}, {"state": "dead", "attempts": 3}, "done"),
            ({"state": "dead", "attempts": 3}, {"state": "done"}, "done"),
            ({"state": "discarded"}, {"state": "pending", "attempts": 1}, "pending"),
            ({"state": "pending", "attempts": 1}, {"state": "discarded"}, "pending"),
            ({"state": "pending", "attempts": 1}, {"state": "parked", "attempts": 0}, "pending"),
            (
                {"state": "sent", "token": 1, "started_token": 1, "attempts": 1},
                {"state": "dead", "attempts": 3},
                "sent",
            ),
        ],
    )
    def test_leaves_one_delivery_and_one_subscription_when_it_is_deployed_again(
        self,
        rolled_back: Release,
        renamed: Release,
        under_the_old_name: dict[str, object],
        under_the_new_name: dict[str, object],
        kept: str,
    ):
        """Failed with two subscriptions: each new event was owed to the old name, too, and a
        second rollback ran it twice.
        """
        emit_order(rolled_back)
        run_pass_of(rolled_back)
        of = Delivery.objects.filter
        of(subscription__handler="tests.count").update(**under_the_old_name)
        of(subscription__handler="tests.count_orders").update(**under_the_new_name)

        migrate(renamed)

        assert Subscription.objects.get().handler == "tests.count_orders"
        assert Delivery.objects.get().state == kept

    def test_runs_new_events_once_through_a_second_rollback(
        self, rolled_back: Release, renamed: Release, handled: list[str]
    ):
        """Failed: the old subscription was left, and had a delivery of what was handled."""
        emit_order(rolled_back)
        messages = run_pass_of(rolled_back)
        of = Delivery.objects.filter
        of(subscription__handler="tests.count_orders").update(state="dead", attempts=3)
        run_messages_of(rolled_back, messages)

        migrate(renamed)
        emit_order(renamed)
        run_messages_of(renamed, run_pass_of(renamed))
        migrate(rolled_back)
        end_backoffs()
        run_messages_of(rolled_back, run_pass_of(rolled_back))

        assert handled == ["count", "count_orders"]

    def test_is_repeated_if_the_new_name_was_ended_meanwhile(
        self, rolled_back: Release, renamed: Release, handled: list[str]
    ):
        """Failed: what the old name was owed moved to a subscription that had ended."""
        with running(rolled_back):
            operations.end("tests.count_orders", by="ann", reason="no code has it")
        emit_order(rolled_back)
        run_pass_of(rolled_back)
        since = Subscription.objects.get(handler="tests.count").since

        migrate(renamed)
        end_backoffs()
        run_messages_of(renamed, run_pass_of(renamed))
        emit_order(renamed)
        run_messages_of(renamed, run_pass_of(renamed))

        row = Subscription.objects.get()
        assert (row.active, row.since) == (True, since)
        assert handled == ["count_orders", "count_orders"]

    def test_keeps_only_deliveries_of_the_new_name_if_the_old_one_was_ended(
        self, rolled_back: Release, renamed: Release, handled: list[str]
    ):
        emit_order(rolled_back)
        run_pass_of(rolled_back)
        with running(rolled_back):
            operations.end("tests.count", by="ann", reason="it counts wrongly")

        migrate(renamed)
        end_backoffs()
        run_messages_of(renamed, run_pass_of(renamed))

        assert Subscription.objects.get().active
        assert handled == ["count_orders"]

    @pytest.mark.parametrize("name", ["tests.count", "tests.count_orders"])
    def test_stays_paused_if_a_person_has_paused_either_name(
        self, rolled_back: Release, renamed: Release, handled: list[str], name: str
    ):
        """Failed for the old name: the handler ran."""
        with running(rolled_back):
            operations.pause(name, by="ann", reason="the bank is closed")
        emit_order(rolled_back)

        migrate(renamed)
        end_backoffs()
        run_messages_of(renamed, run_pass_of(renamed))

        assert handled == []
        assert Subscription.objects.get().pause_reason == "the bank is closed"

    def test_prefers_a_pause_by_a_person_to_one_by_a_backfill(
        self, rolled_back: Release, renamed: Release
    ):
        of = Subscription.objects.filter
        now = timezone.now()
        of(handler="tests.count").update(paused_at=now, paused_by="ann", pause_reason="no")
        of(handler="tests.count_orders").update(
            paused_at=now - timedelta(hours=1), paused_by="backfill:7", pause_reason="half of it"
        )

        migrate(renamed)

        assert Subscription.objects.get().paused_by == "ann"

    def test_keeps_the_open_breaker_of_the_old_name(self, rolled_back: Release, handled: list[str]):
        """Failed: the other side, which was down, got the whole backlog."""
        emit_order(rolled_back)
        now = timezone.now()
        Subscription.objects.filter(handler="tests.count").update(
            breaker_opened_at=now, breaker_probe_at=now + timedelta(hours=1), breaker_failures=5,
            breaker_wait=60, breaker_reason="503",
        )  # fmt: skip

        @subscribe("shops.Ordered", formerly=["tests.count"], breaker=Breaker(on=(ValueError,)))
        def count_orders() -> None:
            handled.append("count_orders")

        again = taken()
        migrate(again)
        run_messages_of(again, run_pass_of(again))

        row = Subscription.objects.get()
        assert (handled, row.breaker_opened_at, row.breaker_reason) == ([], now, "503")

    def test_keeps_the_order_of_a_key_if_the_new_name_is_ordered(self, old: Release):
        """Failed: what the old name was owed had no place in line, and two of a key were sent."""

        seen: list[UUID] = []

        @subscribe("shops.Ordered", formerly=["tests.count"], ordered=True)
        def count_orders(event_id: UUID) -> None:
            seen.append(event_id)

        ordered, key = taken(), uuid4()
        for release in (old, ordered, old):
            migrate(release)
        with running(old):
            for _ in range(2):
                Outbox().given("shops.Ordered", order_id=key)
        run_pass_of(old)
        of = Delivery.objects.filter
        of(subscription__handler="tests.count_orders").update(state="discarded", order_key=None)
        of(subscription__handler="tests.count").update(state="sent", attempts=1)

        migrate(ordered)

        assert set(Delivery.objects.values_list("order_key", flat=True)) == {str(key)}
        end_backoffs()
        pairs = [pair for message in run_pass_of(ordered) for pair in message.pairs]
        with running(ordered):
            for pair in sorted(pairs, reverse=True):
                deliver(handler_name="tests.count_orders", pairs=[pair], worker="w1")
        end_backoffs()
        run_messages_of(ordered, run_pass_of(ordered))
        assert seen == list(Event.objects.order_by("seq").values_list("id", flat=True))

    def test_stores_the_shares_of_deliveries_of_the_old_name(self, old: Release):
        """Failed: one share got more than its handler allows."""

        @subscribe("shops.Ordered", formerly=["tests.count"], share_window=1)
        def count_orders() -> None: ...

        limited = taken()
        for release in (old, limited, old):
            migrate(release)
        emit_order(old)
        run_pass_of(old)
        Event.objects.update(share="acme")
        Delivery.objects.filter(subscription__handler="tests.count").update(attempts=1)

        migrate(limited)

        assert Delivery.objects.get().share == "acme"

    def test_merges_two_former_names_if_the_present_one_has_no_row(
        self, rolled_back: Release, handled: list[str]
    ):
        """Seen to fail where the second one takes the place of the first."""
        emit_order(rolled_back)

        @subscribe("shops.Ordered", formerly=["tests.count", "tests.count_orders"])
        def count_all() -> None:
            handled.append("count_all")

        latest = taken()
        migrate(latest)
        end_backoffs()
        run_messages_of(latest, run_pass_of(latest))

        assert handled == ["count_all"]
        assert Subscription.objects.get().handler == "tests.count_all"


class TestAPausedHandler:
    @pytest.mark.parametrize("formerly", [[], ["tests.count"]])
    def test_stays_paused_when_the_next_release_subscribes_it_to_another_event(
        self, old: Release, formerly: list[str]
    ):
        """Failed: it ran for the new event."""
        name = "tests.count_all" if formerly else "tests.count"

        @subscribe("shops.Cancelled", "shops.Ordered", name=name, formerly=formerly)
        def count_all() -> None: ...

        wider = taken()
        migrate(old)
        with running(old):
            operations.pause("tests.count", by="ann", reason="it counts wrongly")

        migrate(wider)

        pauses = Subscription.objects.values_list("handler", "paused_by", "pause_reason")
        assert list(pauses) == [(name, "ann", "it counts wrongly")] * 2


class TestARemovedHandler:
    def test_keeps_its_subscription_until_a_person_ends_it(self, old: Release):
        """Rule 15. Seen to fail with the rows deleted, or made inactive, in `_mark_unknown`."""
        migrate(old)

        migrate([])
        emit_order([])
        run_pass_of([])

        assert Subscription.objects.get().active
        assert Delivery.objects.get().state == "parked"


class TestMigrate:
    """It prints the subscriptions that it marks unknown, as after a wrong setting."""

    def migrated(self, **options: object) -> str:
        out = StringIO()
        call_command("migrate", stdout=out, **options)
        return " ".join(line for line in out.getvalue().splitlines() if "outbox: " in line)

    def test_names_a_handler_that_the_code_no_longer_has(self, old: Release):
        migrate(old)
        emit_order(old)
        run_pass_of(old)

        said = self.migrated()

        name = old[0].name
        assert f"This code has no handler {name}. Its subscription to shops.Ordered" in said
        assert "its owed deliveries (1) are parked" in said
        assert f"`manage.py outbox end {name} --reason TEXT`" in said

    def test_names_an_event_that_a_handler_no_longer_subscribes_to(self, own_registry: None):
        subscribe("shops.Ordered", "shops.Returned", name="tests.note")(lambda: None)
        sync_subscriptions()
        subscriptions.registry.clear()
        subscribe("shops.Ordered", name="tests.note")(lambda: None)

        said = self.migrated()

        assert "The handler tests.note no longer subscribes to shops.Returned." in said
        assert "`manage.py outbox end tests.note --event shops.Returned --reason TEXT`" in said

    def test_is_silent_about_those_that_were_unknown_before(self, old: Release):
        migrate(old)
        self.migrated()

        assert self.migrated() == ""

    def test_is_silent_without_verbosity(self, old: Release):
        migrate(old)

        assert self.migrated(verbosity=0) == ""
        assert not Subscription.objects.get().known


def attempts() -> int:
    return Delivery.objects.get().attempts
