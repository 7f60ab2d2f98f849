from __future__ import annotations

import json
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
import time_machine
from django.core.management.base import CommandError
from django.db.models import F
from django.utils import timezone, translation

from outbox import DomainEvent, subscribe
from outbox.management.cli import SUBCOMMANDS
from outbox.management.cli.common import operator
from outbox.models import Delivery, Event, Minute, Subscription
from outbox.testing import Outbox
from tests.outbox.command import outbox_command, refused
from tests.outbox.drive import emit_parcels, run_pass

State = Delivery.State


def set_states(*states: str) -> list[Delivery]:
    """Give the deliveries of `tests.invoice` these states, in order."""
    rows = list(Delivery.objects.filter(subscription__handler="tests.invoice").order_by("pk"))
    for row, state in zip(rows, states, strict=True):
        row.state = state
        row.save()
    return rows


@pytest.fixture
def invoice(own_registry: None) -> None:
    """A handler that does nothing."""

    @subscribe("parcels.ParcelSent")
    def invoice() -> None: ...


@pytest.fixture
def notify(invoice: None) -> None:
    """A second one."""

    @subscribe("parcels.ParcelSent", queue="mail")
    def notify() -> None: ...


@pytest.mark.usefixtures("notify")
class TestStatus:
    @pytest.fixture(autouse=True)
    def _seven_owed_and_one_waiting(self, notify: None) -> None:
        events = emit_parcels(7)
        run_pass()
        set_states("pending", "pending", "sent", "sent", "dead", "parked", "done")
        retried = Delivery.objects.filter(state=State.PENDING).latest("pk")
        Delivery.objects.filter(pk=retried.pk).update(attempts=2)
        Delivery.objects.filter(subscription__handler="tests.notify").update(state=State.DONE)
        Event.objects.filter(pk=events[0].pk).update(emitted_at=F("emitted_at") - timedelta(days=2))
        emit_parcels(1)

    def found(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(outbox_command("status", "--json"))
        return found

    def test_counts_the_owed_deliveries_of_each_handler(self):
        invoice, notify = self.found()["handlers"]

        age = invoice.pop("oldest_owed_seconds")
        del invoice["longest_due_seconds"]
        assert invoice == {
            "handler": "tests.invoice",
            "queue": "tests",
            "pending": 2,
            "retrying": 1,
            "failing": 0,
            "sent": 2,
            "dead": 1,
            "parked": 1,
            "done_in_a_minute": 0,
            "blocked": 0,
            "is_known": True,
            "is_paused": False,
            "paused_at": None,
            "paused_by": "",
            "pause_reason": "",
            "backfill": None,
            "backfill_seen_at": None,
            "is_breaker_open": False,
            "breaker_opened_at": None,
            "breaker_probe_at": None,
            "breaker_reason": "",
        }
        assert timedelta(days=2) <= timedelta(seconds=age) < timedelta(days=2, minutes=5)
        assert (notify["handler"], notify["queue"]) == ("tests.notify", "mail")
        assert (notify["pending"], notify["sent"], notify["oldest_owed_seconds"]) == (0, 0, None)

    def test_has_the_time_for_which_a_delivery_has_waited_for_a_worker(self):
        pending = Delivery.objects.filter(subscription__handler="tests.invoice", state="pending")
        pending.update(due_at=timezone.now() - timedelta(hours=3))
        Delivery.objects.filter(state="sent").update(state="done")

        invoice, notify = self.found()["handlers"]

        waited = timedelta(seconds=invoice["longest_due_seconds"])
        assert timedelta(hours=3) <= waited < timedelta(hours=3, minutes=5)
        assert notify["longest_due_seconds"] == 0

    def test_counts_the_events_that_wait_for_fan_out(self):
        found = self.found()

        assert found["waiting_events"] == 1
        assert 0 <= found["oldest_waiting_seconds"] < 300

    def test_adds_up_a_handler_of_several_events(self):
        other = Subscription.objects.get(handler="tests.invoice")
        other.pk, other.event = None, "parcels.ParcelLost"
        other.save()
        lost = Outbox().given("parcels.ParcelLost", parcel_id=uuid4())
        Delivery.objects.create(event=lost, subscription=other, due_at=timezone.now())

        assert self.found()["handlers"][0]["pending"] == 3

    def test_is_printed_as_a_table(self):
        outbox_command("pause", "tests.notify", "--reason", "the mail server is away")

        head, invoice, notify, waiting = outbox_command("status").splitlines()

        assert (
            " ".join(head.split())
            == "HANDLER PENDING RETRYING SENT DEAD PARKED BLOCKED OLDEST /MIN"
        )
        assert " ".join(invoice.split()) == "tests.invoice 2 1 2 1 1 0 2 d 0"
        assert notify.startswith("tests.notify")
        assert f"paused by {operator()}" in notify
        assert notify.endswith("(the mail server is away)")
        assert waiting.startswith("1 event waits for fan-out, the oldest for ")

    def test_counts_the_deliveries_done_in_the_last_minute(self):
        with time_machine.travel(timezone.now(), tick=False):  # it may be the end of a minute
            this = timezone.now().replace(second=0, microsecond=0)
            for minutes_ago, done in ((0, 5), (1, 0), (2, 70)):
                minute = this - timedelta(minutes=minutes_ago)
                Minute.objects.create(handler="tests.notify", minute=minute, done=done)

            invoice, notify = self.found()["handlers"]

        assert (invoice["done_in_a_minute"], notify["done_in_a_minute"]) == (0, 5)

    def test_reads_no_more_for_more_handlers(self, django_assert_num_queries):
        with django_assert_num_queries(12):  # one of them reads the heartbeats
            outbox_command("status")


@pytest.mark.sqlite
@pytest.mark.usefixtures("invoice")
class TestTheQueryOfOwedDeliveries:
    @pytest.mark.parametrize("state", Delivery.OWED)
    def test_uses_an_index_regardless_of_the_number_settled(self, state):
        """With a condition of the index that SQLite cannot match with state = ?: a SCAN."""
        emit_parcels()
        run_pass()

        plan = Delivery.objects.filter(state=state).values("subscription").explain()

        assert "SEARCH outbox_delivery" in plan or "INDEX outbox_delivery_" in plan


@pytest.mark.usefixtures("own_registry")
class TestStatusOfAnEmptyOutbox:
    def test_names_migrate_as_the_next_step(self):
        assert outbox_command("status").splitlines() == [
            "No handler is subscribed. Run migrate: it stores the subscriptions.",
            "No event waits for fan-out.",
        ]


@pytest.mark.usefixtures("notify")
class TestWhy:
    def test_explains_a_delivery(self):
        (event,) = emit_parcels()
        run_pass()
        delivery = Delivery.objects.first()
        assert delivery is not None

        said = outbox_command("why", str(delivery.pk))

        assert said.splitlines() == [
            f"delivery {delivery.pk} of tests.invoice, event parcels.ParcelSent {event.key} "
            f"({event.id}): sent",
            "    Just sent to the queue tests; a worker starts it next.",
        ]

    def test_explains_all_events_of_a_key(self):
        (event,) = emit_parcels()
        run_pass()

        lines = outbox_command("why", event.key).splitlines()

        assert lines[0] == f"event {event.id}: parcels.ParcelSent {event.key}"

    def test_explains_each_delivery_of_an_event(self):
        (event,) = emit_parcels()
        run_pass()

        lines = outbox_command("why", str(event.id)).splitlines()

        assert lines[0] == f"event {event.id}: parcels.ParcelSent {event.key}"
        assert lines[1].endswith("0 of 2 deliveries are settled.")
        assert "of tests.invoice: sent" in lines[2]
        assert lines[5] == "    Just sent to the queue mail; a worker starts it next."

    @pytest.mark.parametrize(
        ("id_", "sentence"),
        [
            ("4711", "Nothing matches 4711. Searched: "),
            ("01a21012-1774-7330-83c3-5e56f6279d1b", "key of an event, event id, delivery id"),
            ("order-7", "It may have been pruned."),
        ],
    )
    def test_names_the_searched_terms_if_nothing_is_found(self, id_, sentence):
        with pytest.raises(CommandError, match=sentence):
            outbox_command("why", id_)


@pytest.mark.usefixtures("notify")
class TestRetry:
    @pytest.fixture(autouse=True)
    def _two_dead_and_one_in_backoff(self, notify: None) -> None:
        emit_parcels(3)
        run_pass()
        set_states("dead", "dead", "pending")
        later = timezone.now() + timedelta(hours=1)
        Delivery.objects.filter(state=State.PENDING).update(due_at=later)
        mail = Delivery.objects.filter(subscription__handler="tests.notify")
        mail.update(state=State.DEAD)

    def due(self) -> dict[str, int]:
        due = Delivery.objects.filter(state=State.PENDING, due_at__lte=timezone.now())
        names = list(due.values_list("subscription__handler", flat=True))
        return {name: names.count(name) for name in names}

    def test_makes_one_delivery_due(self):
        dead = Delivery.objects.filter(state=State.DEAD).first()
        assert dead is not None

        said = outbox_command("retry", str(dead.pk))

        assert said.startswith("1 delivery made due. Recorded as operation ")
        dead.refresh_from_db()
        assert (dead.state, dead.note) == ("pending", f"retried by {operator()}")

    def test_makes_all_deliveries_of_an_event_due(self):
        event = Event.objects.first()
        assert event is not None

        outbox_command("retry", str(event.id))

        assert self.due() == {"tests.invoice": 1, "tests.notify": 1}

    def test_makes_all_of_a_handler_due(self):
        outbox_command("retry", "--handler", "tests.invoice")

        assert self.due() == {"tests.invoice": 3}

    def test_makes_all_dead_ones_due(self):
        said = outbox_command("retry", "--dead")

        assert said.startswith("5 deliveries made due. Recorded as operation ")
        assert self.due() == {"tests.invoice": 2, "tests.notify": 3}

    def test_makes_the_dead_ones_of_a_handler_due(self):
        outbox_command("retry", "--dead", "--handler", "tests.invoice")

        assert self.due() == {"tests.invoice": 2}

    def test_changes_nothing_in_a_dry_run(self):
        said = outbox_command("retry", "--dead", "--dry-run").splitlines()

        assert [" ".join(line.split()) for line in said[:3]] == [
            "HANDLER STATE OR EVENT NUMBER",
            "tests.invoice dead 2",
            "tests.notify dead 3",
        ]
        assert len(said) == 9
        assert said[-1] == "5 deliveries would change. Nothing was changed."
        assert self.due() == {}

    def test_fails_without_a_choice(self):
        with pytest.raises(CommandError, match="No deliveries chosen"):
            outbox_command("retry")

    @pytest.mark.parametrize("state", ["parked", "pending"])
    def test_refuses_dead_ones_in_another_state(self, state: str):
        """Failed: all dead deliveries of all handlers were due."""
        said = refused("retry", "--dead", "--state", state)

        assert said.startswith(f"--dead and --state {state} exclude each other.")
        assert self.due() == {}

    def test_takes_dead_ones_in_the_state_dead(self):
        said = outbox_command("retry", "--dead", "--state", "dead", "--state", "parked")

        assert said.startswith("5 deliveries made due. ")

    def test_fails_if_there_is_nothing_to_retry(self):
        Delivery.objects.update(state=State.DONE)
        pk = Delivery.objects.values_list("pk", flat=True)[0]

        with pytest.raises(CommandError, match=f"manage.py outbox why {pk}"):
            outbox_command("retry", str(pk))

    def test_fails_for_a_handler_that_does_not_exist(self):
        with pytest.raises(CommandError, match=r"Did you mean tests\.invoice"):
            outbox_command("retry", "--handler", "tests.invoic")


@pytest.mark.usefixtures("invoice")
class TestDiscard:
    def test_is_reported_in_the_language_of_the_user(self):
        """Failed: a part was English."""
        emit_parcels()
        run_pass()
        set_states("dead")

        with translation.override("ja"):
            said = outbox_command("discard", "--state", "dead", "--reason", "x")

        assert "破棄済み" in said
        assert "discarded" not in said


@pytest.mark.usefixtures("invoice")
class TestPauseAndResume:
    def test_stop_and_restart_a_handler(self):
        emit_parcels()

        said = outbox_command("pause", "tests.invoice", "--reason", "wrong prices")
        Outbox().deliver_all()

        assert said == (
            "tests.invoice is paused. To resume it: `manage.py outbox resume tests.invoice`.\n"
        )
        assert Subscription.objects.get().paused_by == operator()
        assert Delivery.objects.get().state == "parked"

        said = outbox_command("resume", "tests.invoice")
        Outbox().deliver_all()

        assert said == "tests.invoice is resumed.\n"
        assert Delivery.objects.get().state == "done"

    def test_report_that_nothing_changed(self):
        Outbox()

        assert outbox_command("resume", "tests.invoice") == "tests.invoice is not paused.\n"
        outbox_command("pause", "tests.invoice", "--reason", "wrong prices")
        assert "is already paused" in outbox_command("pause", "tests.invoice", "--reason", "?")

    @pytest.mark.parametrize("option", ["--dry-run", "--reason=x"])
    def test_refuse_to_pause_an_ended_handler(self, option: str):
        """Failed: it was paused, and was said to need `resume`, which it did before, too."""
        Outbox()
        outbox_command("end", "tests.invoice", "--reason", "not needed")

        said = refused("pause", "tests.invoice", option)

        assert said == (
            "tests.invoice was not paused: the subscription of tests.invoice to parcels.ParcelSent "
            "has ended. To make it active again: `manage.py outbox resume tests.invoice`."
        )
        assert Subscription.objects.get().paused_at is None

    def test_pause_a_handler_that_has_one_active_subscription(self):
        Outbox()
        row = Subscription.objects.get()
        Subscription.objects.update(active=False)
        row.pk, row.event, row.active = None, "parcels.ParcelLost", True
        row.save()

        assert "is paused" in outbox_command("pause", "tests.invoice", "--reason", "x")

    @pytest.mark.parametrize("option", ["--dry-run", "--reason=x"])
    def test_refuse_to_close_a_breaker_that_is_not_open(self, option: str):
        """Failed: the dry run said how many deliveries would change."""
        emit_parcels()
        run_pass()
        set_states("pending")

        said = refused("close-breaker", "tests.invoice", option)

        assert said == "tests.invoice has no open breaker."

    @pytest.mark.parametrize("arguments", [["pause", "--reason", "x"], ["resume"]])
    def test_fail_for_a_handler_that_does_not_exist(self, arguments):
        Outbox()

        with pytest.raises(CommandError, match=r"Did you mean tests\.invoice\?"):
            outbox_command(*arguments, "tests.invoices")


@pytest.mark.usefixtures("invoice")
class TestPrune:
    @pytest.fixture(autouse=True)
    def _one_old_one_owed_one_young(self, invoice: None) -> None:
        old, owed, _young = emit_parcels(3)
        run_pass()
        set_states("done", "dead", "done")
        aged = Event.objects.filter(pk__in=[old.pk, owed.pk])
        aged.update(emitted_at=F("emitted_at") - timedelta(days=31))

    def test_deletes_old_settled_events(self):
        said = outbox_command("prune", "--older-than", "30d")

        assert said == "1 event deleted. Events with owed deliveries are never deleted.\n"
        assert Event.objects.count() == 2

    @pytest.mark.parametrize("age", ["30d", "720h", "43200m"])
    def test_counts_only_in_a_dry_run(self, age):
        said = outbox_command("prune", "--older-than", age, "--dry-run")

        assert said == "1 event would be deleted. Nothing was changed.\n"
        assert Event.objects.count() == 3

    @pytest.mark.parametrize("age", ["30", "0d", "-1d", "1y", "soon"])
    def test_refuses_an_invalid_age(self, age):
        with pytest.raises(CommandError, match=r"30d, 12h, 90m|expected one argument"):
            outbox_command("prune", "--older-than", age)


class TestEvents:
    def test_lists_fields_and_handlers_with_file_and_line(self):
        said = outbox_command("events", "freight.ShipmentBooked")

        head, description, fields, *handlers = [line.strip() for line in said.splitlines()]
        assert head.startswith(
            "freight.ShipmentBooked, version 1, key parcel_id  "
            "tests/outbox/project/freight/events.py:"
        )
        assert description.endswith(".")
        assert fields.startswith("fields parcel_id: UUID, weight: int")
        assert handlers[0].startswith(
            "handler depot.store_parcel  tests/outbox/project/depot/handlers.py:"
        )

    @pytest.mark.usefixtures("own_registry")
    def test_marks_optional_fields(self):
        class Weighed(DomainEvent, key="parcel_id"):
            parcel_id: UUID
            note: str = ""

        said = outbox_command("events", Weighed.event_name)

        assert "fields parcel_id: UUID, note: str (optional)" in said

    def test_can_be_narrowed_to_an_app(self):
        said = outbox_command("events", "depot")

        heads = [line for line in said.splitlines() if line and not line.startswith(" ")]
        assert heads
        assert all(line.startswith("depot.") for line in heads)

    def test_fails_for_an_event_that_no_app_declares(self):
        with pytest.raises(CommandError, match=r"No installed app declares freight\.Nothing\."):
            outbox_command("events", "freight.Nothing")


class TestEachSubcommand:
    @pytest.mark.parametrize("name", SUBCOMMANDS)
    def test_has_a_help_line(self, name):
        line = (SUBCOMMANDS[name].__doc__ or "").splitlines()[0]

        assert 20 < len(line) < 100
        assert line.endswith(".")
