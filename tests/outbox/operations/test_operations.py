from __future__ import annotations

import logging
from datetime import timedelta

import pytest
from django.db import transaction
from django.db.models import F
from django.utils import timezone

from outbox import operations, subscribe
from outbox.models import Attempt, Delivery, Event, Operation, Subscription
from outbox.operations.bulk import BulkTask
from outbox.testing import Outbox
from outbox.transports.nudge import nudge
from outbox.worker.delivery import deliver
from tests.outbox.drive import emit_parcels, expire_leases_and_backoffs, run_pass
from tests.threads import in_thread, wait_until_blocked

pytestmark = pytest.mark.usefixtures("own_registry")

State = Delivery.State


def state() -> str:
    return Delivery.objects.get().state


class Flaky:
    """A handler's effect that fails until it is mended."""

    def __init__(self) -> None:
        self.is_broken = True
        self.runs = 0

    def __call__(self) -> None:
        self.runs += 1
        if self.is_broken:
            raise RuntimeError("broken")


@pytest.fixture
def flaky() -> Flaky:
    """The effect of the handler `tests.invoice`, which has two attempts."""
    effect = Flaky()

    @subscribe("parcels.ParcelSent", attempts=2, backoff_base=0)
    def invoice() -> None:
        effect()

    return effect


class TestADiscardBesideARetry:
    def test_leaves_a_delivery_that_was_retried_after_it_was_found(self, flaky: Flaky):
        """Failed: the retried delivery was discarded, and its effect was lost."""
        outbox = Outbox()
        emit_parcels()
        outbox.deliver_all(raise_errors=False)
        dead = operations.Choice(states=(State.DEAD,))
        discard = BulkTask("discard", dead, "default")
        found = discard.find(after=0, until=Delivery.objects.get().pk, limit=10)

        operations.retry(dead, by="cli:ann", rate=None)
        with transaction.atomic():
            done = discard.touch(found, Operation(action="discard", by="cli:bob", reason="old"))

        assert done.number == 0
        assert state() == "pending"


class TestRetry:
    def test_runs_a_dead_delivery_again_which_then_succeeds(self, flaky: Flaky):
        outbox = Outbox()
        emit_parcels()
        outbox.deliver_all(raise_errors=False)
        assert state() == "dead"
        flaky.is_broken = False

        number = operations.retry(
            operations.Choice(ids=(Delivery.objects.get().pk,)), by="cli:ann"
        ).touched

        assert number == 1
        outbox.deliver_all()
        assert state() == "done"
        assert [failure.number for failure in Attempt.objects.all()] == [1, 2]

    def test_gives_a_dead_delivery_all_its_attempts_again(self, flaky: Flaky):
        outbox = Outbox()
        emit_parcels()
        outbox.deliver_all(raise_errors=False)

        operations.retry(operations.Choice(), by="cli:ann")
        outbox.deliver_all(raise_errors=False)

        assert state() == "dead"
        assert flaky.runs == 4
        assert Attempt.objects.count() == 4

    def test_gives_a_delivery_whose_workers_died_all_its_deaths_again(self, settings):
        @subscribe("parcels.ParcelSent")
        def kill_the_worker() -> None: ...

        settings.OUTBOX = {"MAX_WORKER_CRASHES": 2, "BACKOFF_BASE": 0}
        emit_parcels()
        die_until_dead()

        operations.retry(operations.Choice(), by="cli:ann")

        assert die_until_dead() == 2

    def test_makes_a_delivery_in_backoff_due_now(self):
        @subscribe("parcels.ParcelSent", backoff_base=3600)
        def invoice(attempt: int) -> None:
            if attempt == 1:
                raise RuntimeError

        outbox = Outbox()
        emit_parcels()
        outbox.deliver_all(raise_errors=False)
        Delivery.objects.update(due_at=timezone.now() + timedelta(hours=1))

        number = operations.retry(operations.Choice(), by="cli:ann").touched

        assert number == 1
        outbox.deliver_all()
        delivery = Delivery.objects.get()
        assert (delivery.state, delivery.attempts) == ("done", 2)

    def test_sends_deliveries_that_were_left_parked(self, flaky: Flaky):
        emit_parcels()
        run_pass()
        Delivery.objects.update(state=State.PARKED)

        number = operations.retry(operations.Choice(), by="cli:ann").touched

        assert number == 1
        assert state() == "pending"

    @pytest.mark.parametrize("settled_or_moving", [State.SENT, State.DONE, State.DISCARDED])
    def test_does_not_change_other_deliveries(self, flaky: Flaky, settled_or_moving: State):
        emit_parcels()
        run_pass()
        Delivery.objects.update(state=settled_or_moving)
        before = Delivery.objects.values().get()

        number = operations.retry(operations.Choice(), by="cli:ann").touched

        assert number == 0
        assert Delivery.objects.values().get() == before

    def test_leaves_deliveries_of_a_paused_handler_parked(self, flaky: Flaky):
        outbox = Outbox()
        operations.pause("tests.invoice", by="cli:ann", reason="stocktaking")
        emit_parcels(1, outbox)
        run_pass()

        number = operations.retry(operations.Choice(), by="cli:bob").touched

        assert number == 0
        assert state() == "parked"

    def test_logs_the_user_and_the_deliveries(self, flaky: Flaky, caplog):
        outbox = Outbox()
        emit_parcels()
        outbox.deliver_all(raise_errors=False)
        pk = Delivery.objects.get().pk

        with caplog.at_level(logging.INFO, logger="outbox.operations"):
            operations.retry(operations.Choice(ids=(pk,)), by="cli:ann")

        assert caplog.messages[-1] == f"cli:ann retried deliveries (1): {pk}"

    def test_nudges_the_relay_once_it_is_committed(
        self, flaky: Flaky, django_capture_on_commit_callbacks
    ):
        outbox = Outbox()
        emit_parcels()
        outbox.deliver_all(raise_errors=False)

        with django_capture_on_commit_callbacks() as callbacks:
            operations.retry(operations.Choice(), by="cli:ann")

        assert callbacks == [nudge]


class TestPause:
    def test_parks_the_handlers_deliveries_and_delays_no_other(self, flaky: Flaky):
        @subscribe("parcels.ParcelSent")
        def notify() -> None: ...

        outbox = Outbox()
        changed = operations.pause("tests.invoice", by="cli:ann", reason="wrong prices")
        emit_parcels(3, outbox)

        outbox.deliver_all()

        assert changed == 1
        states = Delivery.objects.order_by("pk").values_list("subscription__handler", "state")
        assert set(states) == {("tests.invoice", "parked"), ("tests.notify", "done")}
        assert flaky.runs == 0

    def test_stops_deliveries_that_were_sent_and_not_started(self, flaky: Flaky):
        emit_parcels()
        (message,) = run_pass()

        operations.pause("tests.invoice", by="cli:ann", reason="wrong prices")
        results = deliver(handler_name="tests.invoice", pairs=message.pairs, worker="w1")

        assert not results
        delivery = Delivery.objects.get()
        assert (delivery.state, delivery.attempts) == ("parked", 0)

    def test_keeps_the_first_reason(self, flaky: Flaky):
        Outbox()
        operations.pause("tests.invoice", by="cli:ann", reason="wrong prices")

        changed = operations.pause("tests.invoice", by="cli:bob", reason="no idea")

        assert changed == 0
        row = Subscription.objects.get()
        assert (row.paused_by, row.pause_reason) == ("cli:ann", "wrong prices")

    def test_logs_the_user_the_handler_and_the_reason(self, flaky: Flaky, caplog):
        Outbox()

        with caplog.at_level(logging.INFO, logger="outbox.operations"):
            operations.pause("tests.invoice", by="cli:ann", reason="wrong prices")

        assert caplog.messages == ["cli:ann paused tests.invoice: wrong prices"]

    def test_suggests_the_name_of_a_mistyped_handler(self, flaky: Flaky):
        Outbox()

        with pytest.raises(operations.UnknownHandler, match=r"Did you mean tests\.invoice\?"):
            operations.pause("tests.invioce", by="cli:ann", reason="wrong prices")

    def test_names_migrate_if_the_subscription_is_not_stored(self, flaky: Flaky):
        with pytest.raises(operations.UnknownHandler, match="run migrate"):
            operations.pause("tests.invoice", by="cli:ann", reason="wrong prices")


class TestResume:
    def test_delivers_parked_deliveries(self, flaky: Flaky):
        flaky.is_broken = False
        outbox = Outbox()
        operations.pause("tests.invoice", by="cli:ann", reason="wrong prices")
        emit_parcels(3, outbox)
        outbox.deliver_all()
        assert flaky.runs == 0

        changed = operations.resume("tests.invoice", by="cli:ann")

        assert changed == 1
        outbox.deliver_all()
        assert flaky.runs == 3
        assert set(Delivery.objects.values_list("state", flat=True)) == {"done"}

    def test_changes_nothing_where_nothing_is_paused(self, flaky: Flaky):
        Outbox()

        assert operations.resume("tests.invoice", by="cli:ann") == 0

    def test_nudges_the_relay_once_it_is_committed(
        self, flaky: Flaky, django_capture_on_commit_callbacks
    ):
        Outbox()
        operations.pause("tests.invoice", by="cli:ann", reason="wrong prices")

        with django_capture_on_commit_callbacks() as callbacks:
            operations.resume("tests.invoice", by="cli:ann")

        assert callbacks == [nudge]


MONTH = timedelta(days=30)


def age(*events: Event, by: timedelta = 2 * MONTH) -> None:
    chosen = Event.objects.filter(pk__in=[event.pk for event in events])
    chosen.update(emitted_at=F("emitted_at") - by)


class TestPrune:
    @pytest.fixture
    def outbox(self) -> Outbox:
        """An outbox whose events have two subscribers; one of them fails at first."""

        @subscribe("parcels.ParcelSent", backoff_base=0)
        def invoice(attempt: int) -> None:
            if attempt == 1:
                raise RuntimeError

        @subscribe("parcels.ParcelSent")
        def notify() -> None: ...

        return Outbox()

    def test_removes_settled_events_with_deliveries_and_attempts(self, outbox: Outbox):
        age(*emit_parcels(7))
        outbox.deliver_all(raise_errors=False)
        assert Attempt.objects.count() == 7

        removed = operations.prune(older_than=MONTH, batch=3)

        assert removed == 7
        assert not Event.objects.exists()
        assert not Delivery.objects.exists()
        assert not Attempt.objects.exists()

    def test_deletes_events_without_a_subscription(self):
        outbox = Outbox()
        age(*emit_parcels())
        outbox.deliver_all()

        assert operations.prune(older_than=MONTH) == 1

    def test_keeps_young_events(self, outbox: Outbox):
        old, young = emit_parcels(2)
        age(old)
        outbox.deliver_all(raise_errors=False)

        removed = operations.prune(older_than=MONTH)

        assert removed == 1
        assert Event.objects.get() == young

    @pytest.mark.parametrize("owed", Delivery.OWED)
    def test_keeps_an_event_that_is_owed_to_one_handler(self, outbox: Outbox, owed: State):
        first, second, third = emit_parcels(3)
        age(first, second, third)
        outbox.deliver_all(raise_errors=False)
        still = second.deliveries.order_by("pk").first()
        assert still is not None
        Delivery.objects.filter(pk=still.pk).update(state=owed)

        removed = operations.prune(older_than=MONTH, batch=1)

        assert removed == 2
        assert Event.objects.get() == second
        assert second.deliveries.count() == 2

    def test_keeps_events_that_wait_for_fan_out(self, outbox: Outbox):
        age(*emit_parcels())

        assert operations.prune(older_than=MONTH) == 0
        assert Event.objects.exists()

    def test_deletes_events_whose_deliveries_were_discarded(self, outbox: Outbox):
        age(*emit_parcels())
        outbox.deliver_all(raise_errors=False)
        Delivery.objects.filter(subscription__handler="tests.notify").update(state=State.DISCARDED)

        assert operations.prune(older_than=MONTH) == 1


@pytest.mark.postgresql
@pytest.mark.django_db(transaction=True)
class TestPruneBesideSomeoneElse:
    def test_keeps_events_that_have_just_become_owed(self):
        """Without the second look under the lock it removes a delivery that is owed."""

        @subscribe("parcels.ParcelSent")
        def notify() -> None: ...

        outbox = Outbox()
        (event,) = emit_parcels()
        age(event)
        outbox.deliver_all()
        newcomer = Subscription.objects.get()
        newcomer.pk, newcomer.handler = None, "tests.newcomer"
        newcomer.save()

        with transaction.atomic():
            Event.objects.select_for_update().get()
            Delivery.objects.create(event=event, subscription=newcomer, due_at=timezone.now())
            removed = in_thread(lambda: operations.prune(older_than=MONTH))
            wait_until_blocked(1)

        assert removed() == 0
        assert set(Delivery.objects.values_list("state", flat=True)) == {"done", "pending"}

    def test_keeps_events_that_are_replayed_at_the_same_time(self):
        """Without the lock on its deliveries it deletes one that is owed again.

        Then the record of the replay, which refers to it, ends the whole run with an error.
        """

        @subscribe("parcels.ParcelSent")
        def notify() -> None: ...

        outbox = Outbox()
        age(*emit_parcels())
        outbox.deliver_all()

        with transaction.atomic():
            assert operations.replay(operations.Choice(), by="ann", reason="a test").touched == 1
            removed = in_thread(lambda: operations.prune(older_than=MONTH))
            wait_until_blocked(1)

        assert removed() == 0
        assert state() == State.PENDING
        assert Attempt.objects.get().outcome == "replayed"


def die_until_dead() -> int:
    """Have workers die in the one delivery's handler until it is dead; return how many died."""
    before = Attempt.objects.count()
    for _ in range(20):
        expire_leases_and_backoffs()
        for message in run_pass():
            started = Delivery.objects.filter(pk__in=[pk for pk, _ in message.pairs])
            started.update(started_token=F("token"), attempts=F("attempts") + 1)
        if state() == State.DEAD:
            return Attempt.objects.count() - before
    raise AssertionError("It never died.")
