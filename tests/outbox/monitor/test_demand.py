"""The wanted number of workers: by due deliveries, the duration of runs and the target lag."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.core.checks import run_checks
from django.db import connection
from django.test import RequestFactory
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from prometheus_client.parser import text_string_to_metric_families
from pytest_django import DjangoAssertNumQueries, Settings

from outbox import operations, subscribe
from outbox.metrics import Family, metrics
from outbox.models import Delivery, Minute, Subscription
from outbox.monitor import demand
from outbox.monitor.demand import QueueDemand, queue_demands
from outbox.testing import Outbox
from tests.outbox.command import outbox_command
from tests.outbox.drive import create_deliveries, emit_orders, run_message, run_pass
from tests.outbox.test_plans import is_scan, plan

State = Delivery.State
TOKEN = "a-token-that-only-the-scraper-knows"


@pytest.fixture(autouse=True)
def _target(own_registry: None, settings: Settings) -> None:
    settings.OUTBOX = {
        **settings.OUTBOX,
        "METRICS_TOKEN": TOKEN,
        "TARGET_LAG_SECONDS": 10,
    }


def subscribed() -> None:
    """Two handlers of the queue "tests", and one of the queue "mail"."""

    @subscribe("shops.Ordered")
    def count(number: int) -> None: ...

    @subscribe("shops.Ordered")
    def sum_up(number: int) -> None: ...

    @subscribe("shops.Ordered", queue="mail")
    def announce(number: int) -> None: ...


def owe(number: int) -> None:
    subscribed()
    emit_orders(number)
    create_deliveries()


def ran(handler: str, *, seconds: float, runs: int = 10, ago: timedelta = timedelta()) -> None:
    """Store that the handler ran, each time so long."""
    minute = (timezone.now() - ago).replace(second=0, microsecond=0)
    Minute.objects.create(handler=handler, minute=minute, done=runs, seconds=runs * seconds)


def of(handler: str) -> Any:
    return Delivery.objects.filter(subscription__handler=handler)


def demands() -> dict[str, QueueDemand]:
    return {one.queue: one for one in queue_demands()}


class TestTheWantedNumber:
    def test_runs_the_due_deliveries_of_a_queue_within_the_target_lag(self):
        owe(50)
        ran("tests.count", seconds=0.2)
        ran("tests.sum_up", seconds=0.5)
        ran("tests.announce", seconds=4)

        found = demands()

        assert found["tests"] == QueueDemand(queue="tests", due=100, seconds=35, workers_wanted=4)
        assert found["mail"] == QueueDemand(queue="mail", due=50, seconds=200, workers_wanted=20)

    def test_is_limited_by_the_window_of_each_handler(self):
        """Seen to fail: a window of two and a long backlog wanted twenty processes."""
        owe(50)
        ran("tests.count", seconds=1)
        ran("tests.sum_up", seconds=1)
        ran("tests.announce", seconds=4)
        windows = Subscription.objects.filter(handler__in=["tests.announce", "tests.count"])
        windows.update(window_now=2)

        assert demands()["mail"].workers_wanted == 2
        assert demands()["tests"].workers_wanted == 2 + 5

    def test_is_limited_by_the_batches_of_a_bulk_handler(self):
        owe(50)
        ran("tests.announce", seconds=4)
        bulk = Subscription.objects.filter(handler="tests.announce")
        bulk.update(bulk=True, window_now=25, batch=10)

        assert demands()["mail"].workers_wanted == 3

    def test_is_zero_while_nothing_is_due(self):
        subscribed()
        Outbox()

        assert demands()["mail"] == QueueDemand(queue="mail", due=0, seconds=0, workers_wanted=0)

    def test_is_one_for_a_single_quick_delivery(self):
        owe(1)
        ran("tests.announce", seconds=0.0)

        assert demands()["mail"].workers_wanted == 1

    def test_counts_deliveries_in_flight(self):
        owe(3)
        run_pass()

        assert set(of("tests.announce").values_list("state", flat=True)) == {State.SENT}
        assert demands()["mail"].due == 3

    def test_expects_a_second_for_a_handler_without_a_recent_run(self):
        owe(25)
        ran("tests.announce", seconds=90, ago=timedelta(hours=3))

        assert demands()["mail"].seconds == 25

    def test_measures_failed_runs_as_well(self):
        owe(10)
        Minute.objects.create(
            handler="tests.announce", minute=timezone.now(), done=1, failed=3, seconds=8
        )

        assert demands()["mail"].seconds == 20

    def test_returns_to_zero_when_all_are_done(self):
        owe(2)
        for message in run_pass():
            run_message(message)

        assert {one.workers_wanted for one in queue_demands()} == {0}


class TestADeliveryThatNoWorkerMayRun:
    def test_does_not_count_while_it_waits_for_its_time(self):
        owe(4)
        later = timezone.now() + timedelta(hours=1)
        of("tests.announce").update(due_at=later)

        assert demands()["mail"].workers_wanted == 0

    def test_counts_from_its_time_on(self):
        owe(4)
        of("tests.announce").update(due_at=timezone.now() - timedelta(seconds=1))

        assert demands()["mail"].due == 4

    @pytest.mark.parametrize("state", [State.DEAD, State.PARKED, State.BLOCKED, State.DONE])
    def test_does_not_count_in_another_state(self, state: str):
        owe(2)
        of("tests.announce").update(state=state)

        assert demands()["mail"].workers_wanted == 0

    def test_does_not_count_from_the_pause_of_its_handler_on(self):
        owe(2)
        operations.pause("tests.announce", by="ann", reason="a test")
        of("tests.announce").update(state=State.PENDING)  # as before the relay's next pass

        assert demands()["mail"].workers_wanted == 0

    def test_does_not_count_if_the_code_does_not_know_its_handler(self):
        owe(2)
        Subscription.objects.filter(handler="tests.announce").update(known=False)

        assert demands()["mail"].workers_wanted == 0

    def test_makes_no_queue_of_an_ended_subscription(self):
        owe(2)
        Subscription.objects.filter(handler="tests.announce").update(active=False)

        assert set(demands()) == {"tests"}


class TestAnOpenBreaker:
    def open(self, *, probe_in: timedelta) -> None:
        now = timezone.now()
        Subscription.objects.filter(handler="tests.announce").update(
            breaker_opened_at=now, breaker_probe_at=now + probe_in
        )

    def test_holds_all_deliveries_until_its_probe_is_due(self):
        owe(30)
        self.open(probe_in=timedelta(minutes=5))

        assert demands()["mail"].due == 0

    def test_wants_one_worker_for_its_probe(self):
        owe(30)
        self.open(probe_in=timedelta(seconds=-1))

        assert (demands()["mail"].due, demands()["mail"].workers_wanted) == (1, 1)


class TestTheQueries:
    def test_are_two_however_many_handlers_there_are(
        self, django_assert_num_queries: DjangoAssertNumQueries
    ):
        for number in range(20):
            subscribe("shops.Ordered", name=f"tests.handler_{number}", queue=f"queue_{number}")(
                lambda: None
            )
        Outbox().given("shops.Ordered", order_id=uuid4())
        create_deliveries()

        with django_assert_num_queries(2):
            assert len(queue_demands()) == 20

    def test_stop_counting_at_the_limit(self, monkeypatch: pytest.MonkeyPatch):
        owe(8)
        monkeypatch.setattr(demand, "MOST_COUNTED", 5)

        assert demands()["mail"].due == 5

    def test_read_deliveries_by_indexes_of_owed_ones_only(self):
        owe(8)
        with CaptureQueriesContext(connection) as captured:
            queue_demands()
        if connection.vendor == "postgresql":
            with connection.cursor() as cursor:  # it reads a table of eight rows as a whole
                cursor.execute("SET LOCAL enable_seqscan = off")

        lines = [line for query in captured.captured_queries for line in plan(query["sql"])]
        assert any("outbox_delivery_" in line for line in lines)  # the names of its indexes
        assert [line for line in lines if is_scan(line)] == []


class TestTheSameNumber:
    def found_by(self, query: str = "") -> dict[str, dict[str, float]]:
        request = RequestFactory().get(
            f"/metrics{query}", headers={"Authorization": f"Bearer {TOKEN}"}
        )
        text = metrics(request, more=lambda: [Family("own_number", "gauge", "A number.")])
        return {
            family.name: {sample.labels.get("queue", ""): sample.value for sample in family.samples}
            for family in text_string_to_metric_families(text.content.decode())
        }

    def test_is_in_the_status_and_in_the_metrics(self):
        owe(50)
        ran("tests.announce", seconds=4)

        shown = json.loads(outbox_command("status", "--json"))["queues"]

        assert shown == [
            {"queue": "mail", "due": 50, "seconds": 200, "workers_wanted": 20},
            {"queue": "tests", "due": 100, "seconds": 100, "workers_wanted": 10},
        ]
        assert self.found_by()["outbox_workers_wanted"] == {"mail": 20, "tests": 10}
        assert self.found_by()["outbox_due"] == {"mail": 50, "tests": 100}

    def test_can_be_requested_alone_at_the_cost_of_its_queries(
        self, django_assert_num_queries: DjangoAssertNumQueries
    ):
        owe(50)

        with django_assert_num_queries(2):
            found = self.found_by("?name[]=outbox_workers_wanted")

        assert found == {"outbox_workers_wanted": {"mail": 5, "tests": 10}}

    @pytest.mark.parametrize("name", ["outbox_waiting_events", "own_number", "outbox_events_total"])
    def test_can_be_requested_with_others(self, name: str):
        owe(1)

        found = self.found_by(f"?name[]=outbox_due&name[]={name}")

        assert set(found) == {"outbox_due", name.removesuffix("_total")}


class TestAnUnreachableTarget:
    def test_is_refused_by_the_check(self, settings: Settings):
        settings.OUTBOX = {**settings.OUTBOX, "TARGET_LAG_SECONDS": 0}
        found = [one.msg for one in run_checks(tags=["outbox"])]

        assert 'OUTBOX["TARGET_LAG_SECONDS"] has the invalid value 0.' in found
