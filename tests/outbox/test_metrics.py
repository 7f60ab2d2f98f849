"""Metrics: correct with many processes, cheap to scrape, and protected by a token."""

from __future__ import annotations

import multiprocessing
import sys
from collections import Counter as Tally
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.core.checks import run_checks
from django.db import DatabaseError, connection
from django.db.models import F
from django.http import Http404
from django.test import RequestFactory
from django.utils import timezone
from prometheus_client.parser import text_string_to_metric_families
from pytest_django import DjangoAssertNumQueries, Settings

from outbox import PermanentFailure, operations, subscribe
from outbox.counting import counters
from outbox.counting.counters import counted
from outbox.deliveries.settlement import OLDER_RELEASE
from outbox.metrics import families, metrics
from outbox.models import Counter, Delivery, Event, Heartbeat, Minute, Subscription
from outbox.relay.passes import relay_pass
from outbox.relay.publishing import BrokerUnavailable
from outbox.testing import Outbox
from tests.outbox.drive import run_pass

TOKEN = "a-token-that-only-the-scraper-knows"

Series = dict[tuple[str, ...], float]


@pytest.fixture
def counting(own_registry: None, settings: Settings) -> None:
    settings.OUTBOX = {**settings.OUTBOX, "METRICS_TOKEN": TOKEN}


def scrape(token: str = TOKEN) -> dict[str, Series]:
    """Scrape the page: series by sample name, each by its label values in the order of names."""
    request = RequestFactory().get("/metrics", headers={"Authorization": f"Bearer {token}"})
    answer = metrics(request)
    assert answer.status_code == 200
    found: dict[str, Series] = {}
    for family in text_string_to_metric_families(answer.content.decode()):
        for sample in family.samples:
            series = found.setdefault(sample.name, {})
            series[tuple(value for _name, value in sorted(sample.labels.items()))] = sample.value
    return found


def subscribed() -> Outbox:
    @subscribe("shops.Ordered", attempts=1)
    def count(fails: bool) -> None:
        if fails:
            raise PermanentFailure("no use")

    @subscribe("shops.Ordered", queue="mail")
    def announce() -> None: ...

    return Outbox()


@pytest.mark.usefixtures("counting")
class TestTheGauges:
    def test_count_owed_deliveries_by_handler_and_state(self):
        outbox = subscribed()
        outbox.given("shops.Ordered", order_id=uuid4(), fails=True)
        outbox.given("shops.Ordered", order_id=uuid4(), fails=False)
        outbox.deliver_all(only="tests.count", raise_errors=False)

        owed = scrape()["outbox_owed"]

        assert owed["tests.count", "dead"] == 1
        assert owed["tests.announce", "pending"] == 2
        assert owed["tests.announce", "dead"] == 0

    def test_have_the_age_of_the_oldest_event_in_each_state(self):
        outbox = subscribed()
        for fails, minutes in ((True, 90), (False, 60), (False, 30)):
            event = outbox.given("shops.Ordered", order_id=uuid4(), fails=fails)
            then = timezone.now() - timedelta(minutes=minutes)
            Event.objects.filter(pk=event.pk).update(emitted_at=then)
        outbox.deliver_all(only="tests.count", raise_errors=False)
        Delivery.objects.filter(event=Event.objects.earliest("seq")).exclude(state="dead").update(
            state="done"
        )

        oldest = scrape()["outbox_oldest_owed_seconds"]

        assert oldest["tests.count", "dead"] == pytest.approx(5400, abs=100)
        assert oldest["tests.announce", "pending"] == pytest.approx(3600, abs=100)
        assert oldest["tests.announce", "dead"] == 0

    def test_have_the_longest_wait_of_a_due_delivery(self):
        outbox = subscribed()
        outbox.given("shops.Ordered", order_id=uuid4(), fails=False)
        outbox.deliver_all(only="tests.count")
        Delivery.objects.exclude(state="done").update(due_at=F("due_at") - timedelta(minutes=10))

        waits = scrape()["outbox_longest_due_seconds"]

        assert waits["tests.announce",] == pytest.approx(600, abs=100)
        assert waits["tests.count",] == 0

    def test_name_a_handler_whose_deliveries_workers_hand_back(self):
        """Failed: no metric showed them, since each is due again after seconds."""
        outbox = subscribed()
        outbox.given("shops.Ordered", order_id=uuid4(), fails=False)
        outbox.deliver_all(only="tests.count")
        waiting = Delivery.objects.exclude(state="done")
        waiting.update(state="pending", note=f"w1 does not know the event; {OLDER_RELEASE}")

        found = scrape()["outbox_handed_back"]

        assert found == {("tests.announce",): 1, ("tests.count",): 0}

    def test_have_no_long_wait_during_a_replay_of_an_old_event(self):
        """Failed: the rule of overdue deliveries read the age of the event, and raised a page."""
        outbox = subscribed()
        outbox.given("shops.Ordered", order_id=uuid4(), fails=False)
        outbox.deliver_all()
        Event.objects.update(emitted_at=F("emitted_at") - timedelta(days=20))
        operations.replay(operations.Choice(handler="tests.count"), by="ann", reason="a test")

        found = scrape()

        assert found["outbox_oldest_owed_seconds"]["tests.count", "pending"] > 1_700_000
        assert found["outbox_longest_due_seconds"]["tests.count",] == pytest.approx(0, abs=100)

    def test_count_events_that_wait_for_the_relay(self):
        outbox = subscribed()
        outbox.given("shops.Ordered", order_id=uuid4(), fails=False)
        Event.objects.update(emitted_at=F("emitted_at") - timedelta(minutes=7))

        found = scrape()

        assert found["outbox_waiting_events"][()] == 1
        assert found["outbox_oldest_waiting_seconds"][()] == pytest.approx(420, abs=100)

    def test_have_the_latest_heartbeat_of_each_part(self):
        subscribed()
        now = timezone.now()
        for kind, name, queues, minutes in (
            ("relay", "r1", [], 60),
            ("relay", "r2", [], 2),
            ("worker", "w1", ["tests", "outbox"], 3),
            ("broker", "r1", [], 4),
        ):
            seen = now - timedelta(minutes=minutes)
            Heartbeat.objects.create(
                kind=kind, name=name, queues=queues, started_at=seen, seen_at=seen
            )

        found = scrape()

        assert found["outbox_last_seen_seconds"]["relay",] == pytest.approx(120, abs=60)
        assert found["outbox_last_seen_seconds"]["broker",] == pytest.approx(240, abs=60)
        assert found["outbox_last_seen_seconds"]["beat",] == float("inf")
        workers = found["outbox_worker_last_seen_seconds"]
        assert workers["tests",] == pytest.approx(180, abs=60)
        assert workers["mail",] == float("inf")
        assert workers["outbox",] == pytest.approx(180, abs=60)

    def test_know_the_queue_of_the_relay_only_with_celery(self, settings: Settings):
        """Failed: processes of other queues raised a page for ever, since none has this one."""
        settings.OUTBOX = {**settings.OUTBOX, "TRANSPORTS": ["local"]}
        subscribed()
        now = timezone.now()
        Heartbeat.objects.create(
            kind="worker", name="w1", queues=["tests", "mail"], started_at=now, seen_at=now
        )

        found = scrape()

        assert set(found["outbox_worker_last_seen_seconds"]) == {("tests",), ("mail",)}
        assert set(found["outbox_queue_refused"]) == {("tests",), ("mail",)}

    def test_show_paused_and_unknown_handlers_and_open_breakers(self):
        subscribed()
        operations.pause("tests.count", by="ann", reason="a test")
        mine = Subscription.objects.filter(handler="tests.announce")
        mine.update(known=False, breaker_opened_at=timezone.now())

        found = scrape()

        assert found["outbox_handler_paused"] == {("tests.count",): 1, ("tests.announce",): 0}
        assert found["outbox_handler_known"] == {("tests.count",): 1, ("tests.announce",): 0}
        assert found["outbox_breaker_open"]["shops.Ordered", "tests.announce"] == 1
        assert found["outbox_breaker_open"]["shops.Ordered", "tests.count"] == 0

    def test_have_the_lease_and_the_window_of_each_handler(self):
        @subscribe("shops.Ordered", "shops.Returned", lease=90)
        def count() -> None: ...

        Outbox()
        Subscription.objects.filter(event="shops.Ordered").update(window_now=7)
        Subscription.objects.filter(event="shops.Returned").update(window_now=5)

        found = scrape()

        assert found["outbox_handler_lease_seconds"] == {("tests.count",): 90}
        assert found["outbox_handler_window"] == {("tests.count",): 12}

    def test_cost_the_same_with_many_handlers(
        self, django_assert_num_queries: DjangoAssertNumQueries
    ):
        """Seen to fail with one query for the workers of each queue."""
        for number in range(20):
            subscribe("shops.Ordered", name=f"tests.handler_{number}", queue=f"queue_{number}")(
                lambda: None
            )
        Outbox().given("shops.Ordered", order_id=uuid4())
        run_pass()

        with django_assert_num_queries(16):
            families()


@pytest.mark.usefixtures("counting")
class TestTheCounters:
    def test_count_events_messages_and_attempts(self):
        outbox = subscribed()
        outbox.given("shops.Ordered", order_id=uuid4(), fails=True)
        outbox.given("shops.Ordered", order_id=uuid4(), fails=False)
        outbox.deliver_all(raise_errors=False)

        found = scrape()

        assert found["outbox_events_total"] == {("shops.Ordered",): 2}
        assert found["outbox_deliveries_sent_total"] == {
            ("tests.count",): 2,
            ("tests.announce",): 2,
        }
        assert found["outbox_messages_sent_total"]["tests.announce",] == 1
        assert found["outbox_attempts_total"] == {
            ("tests.count", "done"): 1,
            ("tests.count", "dead"): 1,
            ("tests.count", "died"): 0,
            ("tests.announce", "done"): 2,
            ("tests.announce", "died"): 0,
        }

    def test_start_at_zero_for_workers_that_die(self):
        """A series that starts at 1 has no increase, so the first death would raise no alert."""
        subscribed()

        assert scrape()["outbox_attempts_total"] == {
            ("tests.count", "died"): 0,
            ("tests.announce", "died"): 0,
        }

    def test_have_histograms_of_durations(self):
        outbox = subscribed()
        outbox.given("shops.Ordered", order_id=uuid4(), fails=False)
        Event.objects.update(emitted_at=F("emitted_at") - timedelta(seconds=200))
        outbox.deliver_all()

        found = scrape()

        buckets = found["outbox_delivery_seconds_bucket"]
        assert buckets["tests.count", "60.0"] == 0
        assert buckets["tests.count", "1800.0"] == buckets["tests.count", "+Inf"] == 1
        assert found["outbox_delivery_seconds_count"]["tests.count",] == 1
        assert found["outbox_delivery_seconds_sum"]["tests.count",] == pytest.approx(200, abs=100)
        assert found["outbox_attempt_seconds_count"]["tests.count",] == 1
        assert found["outbox_fan_out_seconds_count"][()] == 1

    def test_have_the_bounds_that_the_charts_have(self):
        outbox = subscribed()
        outbox.given("shops.Ordered", order_id=uuid4(), fails=False)
        outbox.deliver_all(only="tests.count")

        buckets = scrape()["outbox_delivery_seconds_bucket"]

        bounds = [float(bound) for name, bound in buckets if name == "tests.count"]
        columns = [field.name for field in Minute._meta.fields if field.name.startswith("lag_")]
        assert bounds == [*counters.WAIT_BOUNDS, float("inf")]
        assert len(columns) == len(bounds)

    def test_count_stored_buckets_of_other_bounds_at_the_next_bound(self):
        subscribed()
        for part, value in (("0.05", 3), ("10.0", 2), ("86400.0", 1), ("+Inf", 1), ("sum", 99)):
            Counter.objects.create(name="delivery", label="tests.count", part=part, value=value)

        found = scrape()

        buckets = found["outbox_delivery_seconds_bucket"]
        assert buckets["tests.count", "0.1"] == buckets["tests.count", "5.0"] == 3
        assert buckets["tests.count", "15.0"] == buckets["tests.count", "7200.0"] == 5
        assert found["outbox_delivery_seconds_count"]["tests.count",] == 7
        assert found["outbox_delivery_seconds_sum"]["tests.count",] == 99

    def test_count_messages_that_the_broker_refuses(self):
        outbox = subscribed()
        outbox.given("shops.Ordered", order_id=uuid4(), fails=False)

        def refuse(message: object) -> None:
            raise ConnectionError

        with pytest.raises(BrokerUnavailable):
            relay_pass(publish=refuse)

        assert scrape()["outbox_broker_failures_total"] == {(): 2}, "one for each queue"

    def test_continue_after_each_scrape(self):
        outbox = subscribed()
        for _ in range(3):
            outbox.given("shops.Ordered", order_id=uuid4(), fails=False)
            outbox.deliver_all()
            found = scrape()["outbox_events_total"]

        assert found == {("shops.Ordered",): 3}

    def test_are_kept_while_the_database_is_unreachable(self):
        def away(*_args: object) -> None:
            raise DatabaseError("gone")

        counters.count("events", "shops.Ordered")
        with connection.execute_wrapper(away), pytest.raises(DatabaseError):
            counters.flush()
        counters.flush()

        assert list(counted()) == [(("events", "shops.Ordered"), "", 1)]

    def test_cost_one_statement_for_each_write(
        self, django_assert_num_queries: DjangoAssertNumQueries
    ):
        with django_assert_num_queries(0):
            for number in range(1000):
                counters.observe("attempt", number / 10, "a.b", bounds=(1, 10))

        with django_assert_num_queries(1):
            counters.flush()
        with django_assert_num_queries(0):
            counters.flush()

    @pytest.mark.filterwarnings("ignore:.* use of fork.. may lead to deadlocks:DeprecationWarning")
    def test_are_added_once_though_the_process_forks(self):
        """Seen to fail without `register_at_fork`: the child also adds its parent's counts."""
        counters.count("events", "shops.Ordered")
        context = multiprocessing.get_context("fork")
        queue = context.Queue()
        child = context.Process(target=lambda: queue.put(dict(counters._buffer._tallies)))

        child.start()
        inherited = queue.get(timeout=60)
        child.join(60)

        assert inherited == {}

    def test_are_added_once_although_the_second_statement_of_a_write_fails(
        self, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setattr(counters, "_ROWS_AT_ONCE", 1)
        written: list[str] = []

        def fail_second(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
            if sql.startswith("INSERT"):
                written.append(sql)
                if len(written) == 2:
                    raise DatabaseError("gone")
            return execute(sql, params, many, context)

        counters.count("events", "shops.Ordered")
        counters.count("events", "shops.Packed")
        with connection.execute_wrapper(fail_second), pytest.raises(DatabaseError):
            counters.flush()
        counters.flush()

        assert [value for _place, _part, value in counted()] == [1, 1]


@pytest.mark.usefixtures("own_registry")
class TestWithoutAToken:
    def test_nothing_is_counted(self):
        outbox = subscribed()
        outbox.given("shops.Ordered", order_id=uuid4(), fails=False)
        outbox.deliver_all()

        counters.flush()

        assert not Counter.objects.exists()

    def test_the_page_does_not_exist(self):
        with pytest.raises(Http404):
            metrics(RequestFactory().get("/metrics"))


@pytest.mark.usefixtures("counting")
class TestThePage:
    @pytest.mark.parametrize("header", ["", "Bearer", "Bearer ", "Bearer x", TOKEN])
    def test_requires_the_token(self, header: str):
        answer = metrics(RequestFactory().get("/metrics", headers={"Authorization": header}))

        assert answer.status_code == 401
        assert b"outbox_" not in answer.content

    def test_has_the_format_openmetrics_on_request(self):
        accept = "application/openmetrics-text; version=1.0.0"
        headers = {"Authorization": f"Bearer {TOKEN}", "Accept": accept}

        answer = metrics(RequestFactory().get("/metrics", headers=headers))

        assert answer["Content-Type"].startswith("application/openmetrics-text")
        assert answer.content.endswith(b"# EOF\n")

    def test_has_a_system_check_for_its_package(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setitem(sys.modules, "prometheus_client", None)
        monkeypatch.setattr("outbox.checks.settings.find_spec", lambda _name: None)

        found = [message.id for message in run_checks(tags=["outbox"])]

        assert "outbox.E026" in found


def add_from_a_thread(results: list[Any]) -> None:
    try:
        for _ in range(50):
            counters._store({("n", label): Tally({"": 1}) for label in "abcdefgh"})
    except Exception as error:
        results.append(error)
    finally:
        connection.close()


@pytest.mark.django_db(transaction=True)
class TestManyProcesses:
    def test_add_to_the_same_rows_without_lost_updates(self):
        """Seen to fail with the value replaced instead of added to."""
        from threading import Thread

        errors: list[Any] = []
        threads = [Thread(target=add_from_a_thread, args=(errors,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert errors == []
        assert {value for _place, _part, value in counted()} == {200}
