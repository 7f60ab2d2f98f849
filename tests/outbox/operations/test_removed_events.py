"""An event that a release removes from a handler: a person ends this one subscription."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from uuid import uuid4

import pytest
from django.utils import timezone

from outbox import BulkDelivery, EventRecord, operations, subscribe, subscriptions
from outbox.admin.advice import advice
from outbox.alerts import problems
from outbox.deliveries.sync import sync_subscriptions
from outbox.doctor import owed
from outbox.doctor.findings import Finding
from outbox.models import Delivery, Event, Operation, Subscription
from outbox.monitor.diagnosis import why
from outbox.monitor.status import status
from outbox.testing import Outbox
from tests.outbox.command import outbox_command, refused
from tests.outbox.drive import (
    create_deliveries,
    expire_leases_and_backoffs,
    run_messages,
    run_pass,
    states,
)
from tests.outbox.ordered import Listener, emit_numbers

pytestmark = pytest.mark.usefixtures("own_registry", "no_nudge")

HANDLER = "tests.note"
REMOVED, KEPT = "shops.Left", "tests.Walked"
END = f"`manage.py outbox end {HANDLER} --event {REMOVED} --reason TEXT`"


@pytest.fixture
def listener(db: None) -> Listener:
    """An ordered handler, after a release that removes one of its two events."""
    listener = Listener()
    listener.subscribe(REMOVED, KEPT)
    subscriptions.registry.clear()
    listener.subscribe(KEPT)
    return listener


def emit_both() -> None:
    """Emit the removed event, then the other one, both with one key."""
    emit_numbers(1, name=REMOVED)
    emit_numbers(2)
    run_pass()


def end() -> Operation:
    return operations.end(HANDLER, event=REMOVED, by="cli:ann", reason="not needed")


def the_removed_one() -> Subscription:
    return Subscription.objects.get(event=REMOVED)


def findings() -> dict[str, Finding]:
    found = {one.text: one for one in owed.examine(using="default")}
    return {text: one for text, one in found.items() if "does not declare" not in text}


def received(listener: Listener) -> list[int]:
    return [number for _key, number in listener.received]


class TestAnEndedEvent:
    def test_gets_no_delivery_any_more(self, listener: Listener):
        """Failed: each new event was parked, and blocked the later ones of its key."""
        end()

        emit_numbers(1, name=REMOVED)
        emit_numbers(2)
        Outbox().deliver_all()

        assert received(listener) == [2]
        assert states() == ["done"]

    def test_frees_the_keys_that_its_deliveries_have_blocked(self, listener: Listener):
        emit_both()
        assert states() == ["parked", "blocked"]

        done = end()
        Outbox().deliver_all()

        assert (done.touched, done.choice) == (1, {"handler": HANDLER, "event": REMOVED})
        assert states() == ["discarded", "done"]

    def test_stays_ended_when_the_handler_is_resumed(self, listener: Listener):
        end()
        assert operations.resume(HANDLER, by="ann") == 0
        operations.pause(HANDLER, by="ann", reason="a test")

        assert operations.resume(HANDLER, by="ann") == 1

        assert not the_removed_one().active

    def test_leaves_no_pause_that_a_new_subscription_would_get(self, listener: Listener):
        operations.pause(HANDLER, by="ann", reason="a test")
        end()
        operations.resume(HANDLER, by="ann")
        subscriptions.registry.clear()

        listener.subscribe(KEPT, "shops.Entered")

        assert not Subscription.objects.exclude(paused_at=None).exists()

    def test_is_no_obstacle_to_a_backfill(self, listener: Listener):
        end()
        emit_both()
        choice = operations.Choice(handler=HANDLER)

        assert not operations.preview("backfill", choice).counts
        assert operations.backfill(choice, by="ann", reason="a test").state == "finished"

    def test_does_not_make_the_handler_unknown(self, listener: Listener):
        end()

        [one] = status().handlers

        assert one.is_known
        assert one.stop is None

    def test_is_the_only_one_that_a_continued_operation_ends(self, listener: Listener):
        emit_both()
        now, choice = timezone.now(), {"handler": HANDLER, "event": REMOVED}
        killed = Operation.objects.create(
            action="end", choice=choice, by="cli:ann", started_at=now, seen_at=now
        )

        operations.continue_operation(killed.pk, by="cli:bob")

        assert states() == ["discarded", "blocked"]
        assert Subscription.objects.get(active=True).event == KEPT
        assert Operation.objects.get(action="end").state == "finished"

    def test_is_found_again_by_the_doctor_when_a_later_release_has_it(self, listener: Listener):
        """Otherwise the handler would silently miss its events."""
        end()
        assert [one.severity for one in findings().values()] == ["ok"]
        subscriptions.registry.clear()
        listener.subscribe(REMOVED, KEPT)

        [finding] = findings().values()

        assert finding.text == f"{HANDLER} gets no new {REMOVED}: this subscription has ended."
        assert f"`manage.py outbox resume {HANDLER}`" in finding.advice
        assert operations.resume(HANDLER, by="ann") == 1
        assert [one.severity for one in findings().values()] == ["ok"]

    def test_is_created_again_by_the_command_that_the_doctor_names(self, listener: Listener):
        """Failed: of a subscription to several events the command found no event."""
        several = Subscription.objects.get(event=KEPT)
        several.pk, several.event, several.active = None, f"{KEPT}, {REMOVED}", False
        several.save()

        advices = [one.advice for text, one in findings().items() if "gets no new" in text]

        assert f"`manage.py outbox backfill {HANDLER} --reason TEXT`" in advices[0]


class TestAHandlerThatIsRemovedAndEnded:
    def test_can_be_resumed_before_a_release_has_it_again(self, listener: Listener):
        subscriptions.registry.clear()
        sync_subscriptions()
        operations.end(HANDLER, by="ann", reason="a mistake")

        assert operations.resume(HANDLER, by="ann") == 2
        assert Subscription.objects.filter(active=True).count() == 2


class TestTheNextStep:
    def test_is_named_by_the_doctor(self, listener: Listener):
        """Failed: it advised to migrate a release that subscribes to it."""
        emit_both()

        found = findings()

        text = (
            f"1 delivery of {HANDLER} is parked: the release that was migrated last no longer "
            f"subscribes it to {REMOVED}."
        )
        assert END in found[text].advice

    def test_is_named_by_a_parked_delivery(self, listener: Listener):
        emit_both()

        assert END in why(Delivery.objects.select_related("subscription").get(state="parked"))

    def test_is_named_if_the_end_was_interrupted(self, listener: Listener):
        emit_both()
        Subscription.objects.filter(event=REMOVED).update(active=False)

        found = findings()

        text = f"{HANDLER} has owed deliveries, but its subscription has ended."
        assert END in found[text].advice


class TestTheCommand:
    def test_ends_only_this_event(self, listener: Listener):
        emit_both()

        shown = outbox_command("end", HANDLER, "--event", REMOVED, "--reason", "not needed")

        assert f"The subscription of {HANDLER} to {REMOVED} has ended. 1 delivery" in shown
        assert states() == ["discarded", "blocked"]

    def test_previews_only_this_event(self, listener: Listener):
        emit_both()

        shown = outbox_command("end", HANDLER, "--event", REMOVED, "--dry-run")

        assert "1 delivery would change. Nothing was changed." in shown
        assert the_removed_one().active

    @pytest.mark.parametrize("rest", [["--dry-run"], ["--reason", "a test"]])
    def test_refuses_an_event_that_the_handler_does_not_have(
        self, listener: Listener, rest: list[str]
    ):
        error = refused("end", HANDLER, "--event", "shops.Loft", *rest)

        assert f"{HANDLER} has no subscription to shops.Loft. It has: " in error
        assert not Operation.objects.exists()


def record_in_bulk(*names: str) -> None:
    """Subscribe a bulk handler."""

    def record(deliveries: Sequence[BulkDelivery]) -> None:
        for one in deliveries:
            one.done()

    subscribe(*names, name=HANDLER, bulk=True)(record)
    sync_subscriptions()


def record_in_order(*names: str) -> None:
    """Subscribe an ordered handler with patterns."""

    def record(event: EventRecord) -> None: ...

    subscribe(*names, name=HANDLER, ordered=True)(record)
    sync_subscriptions()


def emit_named(*names: str) -> None:
    for name in names:
        Outbox().given(name, order_id=uuid4())


BULK = (record_in_bulk, ("shops.Entered", "shops.Asked"))
PATTERNS = (record_in_order, ("parcels.*",))


@pytest.mark.parametrize(("subscribe_to", "kept"), [BULK, PATTERNS])
class TestAnEventThatIsRemovedFromAList:
    """All events of the handler have one subscription, which keeps the owed deliveries."""

    @pytest.fixture(autouse=True)
    def _removed(self, db: None, own_registry: None, subscribe_to, kept) -> None:
        subscribe_to(*kept, REMOVED)
        emit_named(REMOVED)
        create_deliveries()
        subscriptions.registry.clear()
        subscribe_to(*kept)

    def test_is_handed_back_with_the_next_step(self):
        """Failed: the note asked whether the worker's release is older."""
        run_messages(run_pass())

        row = Delivery.objects.get()
        assert (row.state, row.attempts) == ("pending", 0)
        assert row.note == f"its handler no longer subscribes to {REMOVED}; to end it: {END}"

    def test_is_reported_with_the_next_step(self):
        """Failed: the doctor and the alert advised to replace the workers."""
        run_messages(run_pass())
        past = timezone.now() - timedelta(minutes=6)
        Event.objects.update(emitted_at=past)
        Subscription.objects.update(since=past)

        found = {text: one for text, one in findings().items() if "hand deliveries" in text}
        alerts = problems.find({"lag": 300.0}, using="default").problems

        [(text, finding)] = found.items()
        assert text.endswith(f"it no longer subscribes to {REMOVED}.")
        assert END in finding.advice
        assert END in alerts[f"lag:{HANDLER}:release"].text
        assert END in advice(status(), [], [], has_failures=False).text

    @pytest.mark.parametrize("is_sent", [False, True])
    def test_is_owed_no_more_once_it_is_ended(self, is_sent: bool):
        run_messages(run_pass())
        expire_leases_and_backoffs()
        messages = run_pass() if is_sent else []
        assert states() == ["sent" if is_sent else "pending"]

        assert end().touched == 1
        run_messages(messages)

        assert states() == ["discarded"]
        assert Subscription.objects.get().active

    def test_is_refused_while_it_is_in_the_list(self, subscribe_to, kept):
        subscriptions.registry.clear()
        subscribe_to(*kept, REMOVED)

        with pytest.raises(operations.UnknownSubscription, match="still subscribes to"):
            end()

        assert states() == ["pending"]


class TestAListThatIsRemoved:
    def test_is_ended_by_its_list(self, db: None):
        record_in_bulk("shops.Asked", "shops.Entered", REMOVED)
        subscriptions.registry.clear()
        subscribe("shops.Asked", name=HANDLER)(lambda: None)
        emit_named("shops.Asked", REMOVED)
        run_pass()
        text = f"shops.Entered, {REMOVED}"
        assert Subscription.objects.get(known=False).event == text

        done = operations.end(HANDLER, event=text, by="ann", reason="not needed")

        assert done.touched == 1
        assert states() == ["sent", "discarded"]
        assert Subscription.objects.get(active=True).event == "shops.Asked"
