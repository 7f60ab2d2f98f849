"""A queue without a worker: silent if a delivery waits for one, idle otherwise."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from celery import current_app
from django.db.models import F
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries, Settings

from outbox import doctor, operations, subscribe
from outbox.alerts import problems
from outbox.deliveries import heartbeat, settlement
from outbox.models import Delivery, Event, Heartbeat, Subscription
from outbox.monitor.conditions import OVERDUE_AFTER
from outbox.monitor.health import health_of_parts
from outbox.monitor.light import light
from outbox.monitor.unserved import Waiting, longest_waiting, overdue_queues, waiting_since
from outbox.testing import Outbox
from tests.outbox.celery_settings import set_celery
from tests.outbox.drive import create_deliveries, emit_orders, run_message, run_pass

State = Delivery.State
Kind = Heartbeat.Kind

LEASE = 50.0
LONG = timedelta(seconds=90)


@pytest.fixture(autouse=True)
def _mail(own_registry: None) -> None:
    @subscribe("shops.Ordered", queue="mail", lease=LEASE)
    def announce(number: int) -> None: ...

    Outbox()


def owe() -> None:
    emit_orders(1)
    create_deliveries()


def wait(longer: timedelta = LONG) -> None:
    """Let each delivery have been due for so much longer."""
    Delivery.objects.update(due_at=F("due_at") - longer)
    Event.objects.update(fanned_out_at=F("fanned_out_at") - longer)


def send_once_more() -> None:
    """Let a lease pass in which no worker starts the delivery, and send it again."""
    wait(timedelta(seconds=LEASE))
    Delivery.objects.update(due_at=timezone.now())
    run_pass()


def open_breaker(*, probe_at: timedelta) -> None:
    now = timezone.now()
    Subscription.objects.update(breaker_opened_at=now - LONG, breaker_probe_at=now + probe_at)


def silent() -> set[str]:
    return {one.queue for one in health_of_parts() if one.part == "queue" and not one.is_on}


class TestADeliveryThatWaitsForAWorker:
    def test_waits_from_the_time_on_at_which_it_is_due(self):
        owe()
        assert overdue_queues() == set()

        wait()

        assert overdue_queues() == {"mail"}

    def test_waits_from_its_first_message_on(self):
        """A message that no worker starts is sent again after each lease, so none is due long."""
        owe()
        run_pass()
        assert overdue_queues() == set()

        send_once_more()
        wait(timedelta(seconds=11))

        assert Delivery.objects.get().due_at > timezone.now()
        assert overdue_queues() == {"mail"}

    def test_has_not_waited_for_a_lease_if_a_broker_refused_its_message(self):
        """Failed: each of these messages counted as a lease without a worker."""
        owe()
        for _ in range(5):
            [message] = run_pass()
            settlement.hand_back(message.pairs, note="refused", wait=0, using="default")
        run_pass()

        assert Delivery.objects.get().token == 6
        assert overdue_queues() == set()
        assert waiting_since()["tests.announce"] > timezone.now() - OVERDUE_AFTER

    def test_waits_from_its_replay_on(self):
        """Failed: each message before the replay counted as a lease without a worker."""
        owe()
        run_pass()
        Delivery.objects.update(token=20, started_token=20, started_at=timezone.now(), state="done")
        operations.replay(operations.Choice(handler="tests.announce"), by="ann", reason="a test")

        run_pass()

        assert Delivery.objects.get().state == "sent"
        assert overdue_queues() == set()
        assert waiting_since()["tests.announce"] > timezone.now() - OVERDUE_AFTER

    def test_does_not_wait_while_workers_hand_others_of_its_handler_back(self):
        """Failed: each message that was handed back at once counted as a lease without a worker."""
        owe()
        owe()
        run_pass()
        Event.objects.update(fanned_out_at=timezone.now() - LONG)
        Delivery.objects.update(token=200)
        one = Delivery.objects.earliest("pk")
        note = f"w1 has no handler; {settlement.OLDER_RELEASE}"

        settlement.hand_back([(one.pk, 200)], note=note, using="default")

        assert Delivery.objects.filter(state=State.SENT).count() == 1
        assert waiting_since() == {}

    def test_has_not_waited_while_a_worker_ran_it(self):
        owe()
        [message] = run_pass()
        Delivery.objects.update(started_token=F("token"), due_at=timezone.now() + LONG)

        assert message.queue == "mail"
        assert overdue_queues() == set()

    def test_waits_again_when_the_lease_of_a_dead_worker_is_over(self):
        owe()
        run_pass()
        Delivery.objects.update(started_token=F("token"), due_at=timezone.now() - LONG)

        assert overdue_queues() == {"mail"}

    def test_does_not_wait_in_backoff(self):
        owe()
        Delivery.objects.update(due_at=timezone.now() + timedelta(hours=1))

        assert overdue_queues() == set()

    def test_does_not_wait_for_a_paused_handler(self):
        owe()
        operations.pause("tests.announce", by="ann", reason="a test")
        Delivery.objects.update(state=State.PENDING, due_at=timezone.now() - LONG)

        assert overdue_queues() == set()

    def test_does_not_wait_for_an_open_breaker(self):
        owe()
        wait()
        open_breaker(probe_at=LONG)

        assert overdue_queues() == set()

    def test_is_a_probe_that_waits_from_its_own_time_on(self):
        owe()
        wait(2 * LONG)
        open_breaker(probe_at=timedelta(seconds=-30))
        assert overdue_queues() == set()

        open_breaker(probe_at=-LONG)

        assert overdue_queues() == {"mail"}

    def test_does_not_wait_once_it_is_done(self):
        owe()
        for message in run_pass():
            run_message(message)
        wait()

        assert overdue_queues() == set()

    def test_is_named_with_its_handler(self):
        emit_orders(3)
        create_deliveries()
        wait()
        _later, first, sent = Delivery.objects.order_by("pk")
        Delivery.objects.filter(pk=first.pk).update(due_at=F("due_at") - LONG)

        since = first.due_at - LONG
        assert longest_waiting() == {"tests.announce": Waiting(delivery=first.pk, since=since)}

        # A message that no worker has started for longer.
        Event.objects.update(fanned_out_at=timezone.now() - timedelta(hours=1))
        Delivery.objects.filter(pk=sent.pk).update(state=State.SENT, token=30)

        assert longest_waiting()["tests.announce"].delivery == sent.pk

    def test_is_found_by_one_query(self, django_assert_max_num_queries: DjangoAssertNumQueries):
        owe()
        with django_assert_max_num_queries(2):  # one of them reads PostgreSQL's clock
            overdue_queues()


class TestTheReports:
    """Health, light, alerts and doctor agree. For the rule of Prometheus, see tests/docs."""

    @pytest.fixture(autouse=True)
    def _parts(self, monkeypatch: pytest.MonkeyPatch, settings: Settings) -> None:
        settings.OUTBOX = {**settings.OUTBOX, "NUDGE": False}
        set_celery(monkeypatch, "broker_write_url", "memory://")
        monkeypatch.setattr(current_app.amqp, "_producer_pool", None)  # of the address before
        heartbeat._written.clear()
        for kind in (Kind.RELAY, Kind.BEAT, Kind.BROKER):
            heartbeat.beat(kind, str(kind))
        heartbeat.beat(Kind.WORKER, "relay@host", queues=["outbox"])

    def test_accept_a_queue_at_zero_workers_while_nothing_is_due(self):
        """Seen to fail: each queue that KEDA scaled to zero was an error and an alert."""
        assert {name: of("mail") for name, of in REPORTS.items()} == dict.fromkeys(REPORTS, False)
        assert light().text == "healthy"

    def test_name_a_queue_without_a_worker_for_which_a_delivery_waits(self):
        owe()
        wait()

        assert {name: of("mail") for name, of in REPORTS.items()} == dict.fromkeys(REPORTS, True)
        assert light().text == "queue mail silent"

    def test_accept_a_late_delivery_of_a_queue_with_a_worker(self):
        owe()
        wait()
        heartbeat.beat(Kind.WORKER, "mail@host", queues=["mail"])

        assert silent() == set()

    def test_name_the_queue_of_the_relay_always(self):
        Heartbeat.objects.filter(kind=Kind.WORKER).delete()

        assert silent() == {"outbox"}
        assert _doctor("outbox")

    def test_are_stricter_in_the_probe_of_a_worker(self):
        [finding] = doctor.probe(["mail"], timeout=0.1)

        assert (finding.severity, finding.part) == (doctor.ERROR, "queue mail")


def _doctor(queue: str) -> bool:
    found = {one.part: one.severity for one in doctor.examine(timeout=0.1)}
    return found[f"queue {queue}"] != doctor.OK


def _alert(queue: str) -> bool:
    return f"silent:queue:{queue}" in problems.find({"silent": 60.0}, using="default").problems


REPORTS: dict[str, Callable[[str], bool]] = {
    "health": lambda queue: queue in silent(),
    "light": lambda queue: light().text == f"queue {queue} silent",
    "alert": _alert,
    "doctor": _doctor,
}
