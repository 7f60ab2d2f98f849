from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
import time_machine
from django.db.models import F
from django.utils import timezone

from outbox import PermanentFailure, operations, subscribe
from outbox.formatting import format_time, one_line, span
from outbox.models import Attempt, Delivery, Event, Heartbeat, Subscription
from outbox.monitor.diagnosis import why, why_event
from outbox.monitor.timeline import timeline_of
from outbox.testing import Outbox
from tests.outbox.drive import run_pass

pytestmark = pytest.mark.usefixtures("own_registry")

State = Delivery.State
Kind = Heartbeat.Kind

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)


@pytest.fixture
def clock():
    """A clock that stands at noon until it is moved."""
    with time_machine.travel(NOON, tick=False) as traveller:
        yield traveller


def emit_sent_parcels(number: int = 1) -> Event:
    outbox = Outbox()
    for _ in range(number):
        event = outbox.given("parcels.ParcelSent", parcel_id=uuid4())
    return event


def start(worker: str) -> None:
    Delivery.objects.filter(state=State.SENT).update(
        started_token=F("token"), attempts=1, started_at=timezone.now(), worker=worker
    )


def sentence() -> str:
    return why(Delivery.objects.select_related("subscription").latest("pk"))


@pytest.fixture
def invoice(own_registry, clock) -> None:
    """A handler that does nothing."""

    @subscribe("parcels.ParcelSent", window=2, batch=1)
    def invoice() -> None: ...


def sign(kind: Kind, *, queues: Sequence[str] = ()) -> None:
    """A sign of life, as a process gives it."""
    Heartbeat.objects.update_or_create(
        kind=kind,
        name="w1",
        defaults={
            "queues": list(queues), "started_at": timezone.now(), "seen_at": timezone.now()
        },
    )  # fmt: skip


class TestWhyADeliveryIsDone:
    def test_names_time_and_worker(self, invoice):
        emit_sent_parcels()
        Outbox().deliver_all()

        assert sentence() == "Done at 2026-11-24 12:00:00 UTC by worker test, at the first attempt."

    def test_counts_the_failed_runs_before(self, clock):
        @subscribe("parcels.ParcelSent", backoff_base=0)
        def invoice(attempt: int) -> None:
            if attempt < 3:
                raise RuntimeError

        emit_sent_parcels()
        Outbox().deliver_all(raise_errors=False)

        assert sentence().endswith("by worker test, after 2 failed runs.")

    @pytest.mark.parametrize("is_prefetched", [False, True])
    def test_counts_runs_without_a_used_attempt_separately(self, invoice, is_prefetched):
        """Failed: each was a "failed attempt", a lost lease besides its death, too."""
        emit_sent_parcels()
        Outbox().deliver_all()
        for outcome in ("failed", "died", "lease_lost", "outage", "database", "outage", "replayed"):
            Attempt.objects.create(
                delivery=Delivery.objects.get(),
                number=1,
                started_at=NOON,
                ended_at=NOON,
                outcome=outcome,
            )
        rows = Delivery.objects.select_related("subscription")
        rows = rows.prefetch_related("failures") if is_prefetched else rows

        assert why(rows.get()) == (
            "Done at 2026-11-24 12:00:00 UTC by worker test, after 2 failed runs and after 3 "
            "runs that used up no attempt, because the database failed or could not be reached."
        )


class TestWhyADeliveryIsDead:
    def test_names_the_error_its_place_and_the_next_step(self, clock):
        @subscribe("parcels.ParcelSent", attempts=2, backoff_base=0)
        def invoice() -> None:
            raise RuntimeError("no such\nprice.")

        emit_sent_parcels()
        Outbox().deliver_all(raise_errors=False)

        delivery = Delivery.objects.get()
        place = delivery.failures.latest("id").place
        assert place.startswith("tests.outbox.monitor.test_diagnosis:")
        assert sentence() == (
            "Dead after 2 attempts, the last at 2026-11-24 12:00:00 UTC: RuntimeError: no such "
            f"price ({place}). Fix the cause, then retry it in the admin or by "
            f"`manage.py outbox retry {delivery.pk}`."
        )

    def test_distinguishes_a_refusal_from_a_failure(self, clock):
        @subscribe("parcels.ParcelSent")
        def invoice() -> None:
            raise PermanentFailure("no address")

        emit_sent_parcels()
        Outbox().deliver_all(raise_errors=False)

        assert sentence().startswith(
            "Dead: the handler refused it at 2026-11-24 12:00:00 UTC with P"
        )
        assert "no address" in sentence()


class TestWhyADeliveryWaitsForItsBackoff:
    def test_names_the_time_of_the_next_attempt_and_the_error(self, clock):
        @subscribe("parcels.ParcelSent")
        def invoice() -> None:
            raise RuntimeError("the printer is out of paper")

        emit_sent_parcels()
        Outbox().deliver_all(raise_errors=False)
        Delivery.objects.update(due_at=NOON + timedelta(minutes=10))

        assert sentence() == (
            "Retried at 2026-11-24 12:10:00 UTC, in 10 min, after 1 attempt: "
            "RuntimeError: the printer is out of paper."
        )

    def test_distinguishes_a_message_that_was_never_started(self, invoice):
        emit_sent_parcels()
        run_pass()
        Delivery.objects.update(
            state=State.PENDING, due_at=NOON + timedelta(seconds=5), note="old has no handler"
        )

        assert sentence() == "Sent again at 2026-11-24 12:00:05 UTC, in 5 s: old has no handler."


class TestWhyADeliveryIsPending:
    @pytest.fixture(autouse=True)
    def _three_of_which_two_fit_the_window(self, invoice):
        emit_sent_parcels(3)
        run_pass()

    def test_waits_while_the_window_is_full(self):
        assert sentence() == (
            "Waits because the handler's window is full: 2 of at most 2 deliveries of "
            "tests.invoice are with the broker or a worker, and 0 are due before this one."
        )

    def test_waits_for_those_that_are_due_before(self):
        last = Delivery.objects.filter(state=State.SENT).latest("pk")
        Delivery.objects.filter(pk=last.pk).update(
            state=State.PENDING, due_at=NOON - timedelta(minutes=1)
        )

        assert sentence() == (
            "Waits for deliveries of tests.invoice that are due before this one: 1. With the "
            "broker or a worker are 1 of at most 2."
        )

    def test_is_sent_next_when_there_is_room(self):
        Delivery.objects.filter(state=State.SENT).update(state=State.DONE)

        assert sentence() == "Due now; the relay sends it next."

    def test_shows_the_last_error_when_it_is_due_again(self):
        Delivery.objects.filter(state=State.SENT).update(state=State.DONE)
        Delivery.objects.filter(state=State.PENDING).update(attempts=2, note="ValueError: no paper")

        assert sentence() == (
            "Due again now, after 2 attempts: ValueError: no paper. The relay sends it next."
        )

    def test_shows_why_it_was_handed_back_without_an_attempt(self):
        """Failed: the note was dropped."""
        Delivery.objects.filter(state=State.SENT).update(state=State.DONE)
        note = "its worker could not reach the database, and is alive"
        Delivery.objects.filter(state=State.PENDING).update(note=note)

        assert sentence() == f"Due now ({note}); the relay sends it next."

    def test_names_the_relay_if_it_is_long_due(self, clock):
        Delivery.objects.filter(state=State.SENT).update(state=State.DONE)
        clock.shift(90)

        assert sentence() == (
            "Due for 1 min 30 s and not sent. No relay was ever seen: start a worker of the queue "
            "outbox."
        )

    def test_names_the_relay_even_if_others_are_due_earlier(self, clock):
        Delivery.objects.filter(state=State.SENT).update(
            state=State.PENDING, due_at=NOON - timedelta(minutes=1)
        )
        clock.shift(90)

        assert "start a worker of the queue outbox" in sentence()

    def test_names_the_broker_that_accepted_no_message(self, clock):
        Delivery.objects.filter(state=State.SENT).update(state=State.DONE)
        Delivery.objects.update(note="the broker refused its message: ConnectionError: refused")
        clock.shift(90)

        assert sentence() == (
            "Due for 1 min 30 s and not sent (the broker refused its message: ConnectionError: "
            "refused). No relay was ever seen: start a worker of the queue outbox."
        )

    def test_is_not_sent_while_its_handler_is_paused(self):
        operations.pause("tests.invoice", by="cli:ann", reason="wrong prices.")

        assert sentence() == (
            "Not sent: tests.invoice is paused by cli:ann since 2026-11-24 12:00:00 UTC (wrong "
            "prices). To resume it: `manage.py outbox resume tests.invoice`."
        )


class TestWhyADeliveryIsSent:
    @pytest.fixture(autouse=True)
    def _one_sent(self, invoice):
        emit_sent_parcels()
        run_pass()

    def test_was_just_sent(self):
        assert sentence() == "Just sent to the queue tests; a worker starts it next."

    def test_names_the_queue_without_a_worker(self, clock):
        clock.shift(40)

        assert sentence() == (
            "In the queue tests for 40 s (sent 1 time), and no worker started it; sent again after "
            "2026-11-24 12:01:00 UTC. No worker of the queue tests was ever seen: start one."
        )

    def test_names_the_command_without_celery(self, clock, settings):
        """Failed: "start one", of a worker that such a project does not have."""
        settings.OUTBOX = {**settings.OUTBOX, "TRANSPORTS": ["local"]}
        clock.shift(40)
        never = sentence()
        sign(Kind.WORKER, queues=["tests"])
        clock.shift(40)

        assert never.endswith(
            "No process that serves the queue tests was ever seen: start `manage.py outbox work`."
        )
        assert sentence().endswith(
            "A process that serves the queue tests was last seen 40 s ago: check `manage.py outbox "
            "work`."
        )

    def test_distinguishes_a_silent_worker_from_a_running_one(self, clock):
        sign(Kind.WORKER, queues=["tests"])
        clock.shift(40)
        silent = sentence()
        sign(Kind.WORKER, queues=["tests"])
        alive = sentence()

        assert silent.endswith("A worker of the queue tests was last seen 40 s ago: check it.")
        assert alive.endswith("was seen 0 s ago: check with `manage.py outbox doctor`.")

    def test_counts_the_running_deliveries_of_its_queue(self, clock):
        start("w1")
        emit_sent_parcels()
        run_pass()
        clock.shift(40)

        assert sentence() == (
            "In the queue tests for 40 s, whose workers run 1 other delivery; "
            "sent again after 2026-11-24 12:01:00 UTC."
        )

    def test_is_sent_again_when_its_lease_has_passed(self, clock):
        clock.shift(61)

        assert sentence() == (
            "No worker of the queue tests started it by 2026-11-24 12:01:00 UTC; the relay sends "
            "it again. No worker of the queue tests was ever seen: start one."
        )

    def test_names_the_relay_if_the_queues_workers_run(self, clock):
        sign(Kind.RELAY)
        clock.shift(61)
        sign(Kind.WORKER, queues=["tests"])

        assert "The relay was last seen 1 min 1 s ago" in sentence()

    def test_names_the_worker_that_runs_it(self, clock):
        start("w1@host")
        clock.shift(40)

        assert sentence() == (
            "Worker w1@host runs it since 2026-11-24 12:00:00 UTC (attempt 1), leased until "
            "2026-11-24 12:01:00 UTC."
        )

    def test_names_the_worker_whose_lease_has_expired(self, clock):
        start("w1@host")
        clock.shift(61)

        assert sentence().startswith(
            "Worker w1@host runs it since 2026-11-24 12:00:00 UTC, and its lease expired at "
            "2026-11-24 12:01:00 UTC. Either the worker died, or it cannot reach the database, or "
            "the handler needs a longer lease."
        )


class TestWhyADeliveryIsParked:
    def test_names_the_user_who_paused_its_handler_and_the_reason(self, invoice):
        Outbox()
        operations.pause("tests.invoice", by="user:7", reason="")
        emit_sent_parcels()
        run_pass()

        assert Delivery.objects.get().state == "parked"
        assert sentence().startswith(
            "Parked: tests.invoice is paused by user:7 since 2026-11-24 12:00:00 UTC (no "
            "reason given)."
        )

    def test_explains_that_the_code_has_no_such_handler(self, invoice):
        Outbox()
        Subscription.objects.update(known=False)
        Event.objects.create(
            name="parcels.ParcelSent", key="1", payload={}, emitted_at=NOON, correlation_id=uuid4()
        )
        run_pass()

        assert Delivery.objects.get().state == "parked"
        assert sentence().startswith(
            "Parked: the code that was last migrated does not subscribe tests.invoice to "
            "parcels.ParcelSent. Deploy and migrate"
        )

    def test_is_sent_once_its_handler_runs_again(self, invoice):
        emit_sent_parcels()
        run_pass()
        Delivery.objects.update(state=State.PARKED)

        assert sentence() == "Was parked; its handler runs again, and the relay sends it next."


class TestWhyADeliveryIsBlocked:
    def test_names_the_command_that_explains_the_head_of_its_key(self, clock):
        """Failed: it named the head, and no next step."""

        @subscribe("parcels.ParcelSent", ordered=True)
        def invoice() -> None: ...

        outbox, parcel_id = Outbox(), uuid4()
        for _ in range(2):
            outbox.given("parcels.ParcelSent", parcel_id=parcel_id)
        run_pass()
        head = Delivery.objects.earliest("pk").pk

        assert sentence() == (
            f"Blocked by delivery {head}, of an earlier event of its key (sent). See "
            f"`manage.py outbox why {head}`."
        )


class TestWhyADeliveryIsDiscarded:
    def test_names_time_and_reason(self, invoice):
        emit_sent_parcels()
        run_pass()
        Delivery.objects.update(
            state=State.DISCARDED, settled_at=NOON, note="user:7: the order was a test"
        )

        assert sentence() == ("Discarded at 2026-11-24 12:00:00 UTC: user:7: the order was a test.")


class TestWhyADeliveryIsNeverSent:
    def test_explains_that_its_subscription_has_ended(self, invoice):
        emit_sent_parcels()
        run_pass()
        Delivery.objects.update(state=State.PENDING)
        Subscription.objects.update(active=False)

        assert sentence() == (
            "Not sent: the subscription of tests.invoice to parcels.ParcelSent has ended. To make "
            "it active again: `manage.py outbox resume tests.invoice`."
        )


class TestWhy:
    @pytest.mark.parametrize("state", State.values)
    def test_costs_at_most_two_reads(self, invoice, state, django_assert_max_num_queries):
        emit_sent_parcels(3)
        run_pass()
        delivery = Delivery.objects.select_related("subscription").latest("pk")
        delivery.state = state

        with django_assert_max_num_queries(2):
            why(delivery)

    def test_reads_no_failures_that_were_fetched_before(self, clock, django_assert_max_num_queries):
        @subscribe("parcels.ParcelSent", attempts=1)
        def invoice() -> None:
            raise RuntimeError

        emit_sent_parcels()
        Outbox().deliver_all(raise_errors=False)
        rows = Delivery.objects.select_related("subscription").prefetch_related("failures")
        delivery = rows.get()

        with django_assert_max_num_queries(0):
            text = why(delivery)

        assert "tests.outbox.monitor.test_diagnosis:" in text

    def test_is_in_the_timeline_of_a_delivery_that_is_not_done(self, invoice):
        event = emit_sent_parcels()
        run_pass()

        (entry,) = timeline_of(key=event.key)

        assert entry.deliveries[0].why == "Just sent to the queue tests; a worker starts it next."


class TestWhyAnEvent:
    def test_waits_for_fan_out_at_first(self, clock):
        assert (
            why_event(emit_sent_parcels()) == "Just emitted; the relay creates its deliveries next."
        )

    def test_names_the_relay_if_it_waits_for_long(self, clock):
        event = emit_sent_parcels()
        clock.shift(3 * 3600)

        assert why_event(event) == (
            "Emitted 3 h ago and not fanned out. No relay was ever seen: start a worker of the "
            "queue outbox."
        )

    def test_counts_the_settled_deliveries(self, invoice):
        @subscribe("parcels.ParcelSent")
        def fail() -> None:
            raise RuntimeError

        event = emit_sent_parcels()
        Outbox().deliver_all(raise_errors=False)
        event.refresh_from_db()

        assert why_event(event) == (
            "Fanned out at 2026-11-24 12:00:00 UTC; 1 of 2 deliveries are settled."
        )

    def test_explains_that_no_handler_subscribes_to_it(self, clock):
        event = emit_sent_parcels()
        Outbox().deliver_all()
        event.refresh_from_db()

        assert (
            why_event(event)
            == "Fanned out at 2026-11-24 12:00:00 UTC; no handler subscribes to it."
        )


class TestWording:
    @pytest.mark.parametrize(
        ("seconds", "text"),
        [
            (0, "0 s"),
            (-3, "0 s"),
            (59.6, "1 min"),
            (61, "1 min 1 s"),
            (7200, "2 h"),
            (7205, "2 h"),
            (90061, "1 d 1 h"),
        ],
    )
    def test_shows_the_two_largest_units_of_a_span(self, seconds, text):
        assert span(timedelta(seconds=seconds)) == text

    def test_shows_times_in_utc(self):
        tokyo = datetime.fromisoformat("2026-11-24T21:00:00+09:00")

        assert format_time(tokyo) == "2026-11-24 12:00:00 UTC"

    def test_joins_lines_and_drops_the_last_stop(self):
        assert one_line("Error: a\n  b.\n") == "Error: a b"


class TestWhyARemainderIsPending:
    def test_waits_for_a_whole_message(self, own_registry, clock):
        """Failed: the sentence named the relay, which ran."""

        @subscribe("parcels.ParcelSent", name="tests.invoice", batch=2, window=10)
        def invoice() -> None: ...

        emit_sent_parcels(3)
        run_pass()
        rest = Delivery.objects.filter(state=State.SENT).latest("pk")
        Delivery.objects.filter(pk=rest.pk).update(state=State.PENDING, due_at=NOON)
        clock.shift(30)

        assert sentence() == (
            "Waits for a whole message: while 2 deliveries of tests.invoice are with the broker or "
            "a worker, the relay sends only whole messages of 2. It sends the rest when fewer than "
            "2 are in flight."
        )
