"""A queue that takes no message is reported with the process that was refused, until it does."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from io import StringIO
from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery
from django.core.management import call_command
from django.db.models import F
from kombu.exceptions import OperationalError

import outbox.tasks  # noqa: F401  registers the task that a relay sends
from outbox import doctor
from outbox.alerts import problems
from outbox.alerts.configuration import LIMITS
from outbox.deliveries import heartbeat, refusals
from outbox.metrics import families
from outbox.models import Heartbeat
from outbox.monitor import light
from outbox.monitor.conditions import Condition
from outbox.monitor.health import Heartbeats, health_of_parts
from outbox.monitor.refused import RefusedQueue
from outbox.testing import Outbox
from outbox.transports import (
    celery_broker,
    celery_queues,
    celery_refusals,
    names,
    nudge,
)
from outbox.transports.base import NUDGES
from outbox.transports.celery_broker import CeleryTransport
from tests.outbox.two_databases import BOTH
from tests.processes import eventually

from .refusals import (
    CAUSE,
    RabbitMQ,
    be_rabbitmq,
    dispatch,
    is_over,
    refuse,
    refuse_another,
    refused,
    refusing,
    reported,
    store_often,
)

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _frequent(monkeypatch: pytest.MonkeyPatch) -> None:
    store_often(monkeypatch)


@pytest.fixture
def broker(celery: Celery, monkeypatch: pytest.MonkeyPatch) -> RabbitMQ:
    return refusing(monkeypatch)


class TestAQueueThatRefusesTheRelay:
    def test_is_reported_with_process_cause_and_time(self, broker: RabbitMQ):
        """Failed: it was only in the log."""
        refuse()

        found = reported()

        assert (found.queue, found.cause) == ("silent", CAUSE)
        assert found.processes == (heartbeat.own_name(),)
        assert found.since <= Heartbeats().now

    def test_keeps_the_time_of_the_first_refusal(self, broker: RabbitMQ):
        refuse()
        first = reported().since
        seen = Heartbeat.objects.get(kind="sender").seen_at

        refuse()

        rows = Heartbeat.objects.filter(kind="sender", seen_at__gt=seen)
        eventually(rows.exists, "the next heartbeat")
        assert reported().since == first

    def test_is_over_when_it_takes_a_message(self, broker: RabbitMQ):
        refuse()
        reported()
        broker.refuses = False

        dispatch()

        eventually(lambda: not Heartbeat.objects.filter(kind="sender").exists(), "no row")

    def test_is_over_when_it_takes_a_message_of_another_process(self, broker: RabbitMQ):
        """This process would be shown for ever: it may never send to the queue again."""
        refuse()
        reported()

        now = Heartbeats().now
        # A row that its process stores at this moment is left for the next call.
        end = partial(refusals.end, {"silent": now}, now, own="host.7", using="default")
        eventually(lambda: not end(), "the queue is removed from the row")

        eventually(lambda: not celery_refusals.own_queues(), "the process has noticed it")
        assert is_over()

    def test_is_over_for_other_processes_when_it_takes_a_message_of_this_one(
        self, broker: RabbitMQ
    ):
        refuse_another("silent", "other")
        broker.refuses = False

        dispatch()

        eventually(lambda: [one.queue for one in refused()] == ["other"], "the end of one")

    def test_is_not_shown_for_a_process_that_has_ended(self):
        refuse_another("silent")
        assert not is_over()

        Heartbeat.objects.update(seen_at=F("seen_at") - heartbeat.stale_after())

        assert is_over()
        assert metric() == {}

    def test_is_one_of_several(self, broker: RabbitMQ):
        for queue in ("silent", "other"):
            refuse(queue)
        eventually(lambda: len(refused()) == 2, "both are reported")
        broker.refuses = False

        dispatch("other")

        eventually(lambda: [one.queue for one in refused()] == ["silent"], "one is left")

    def test_of_several_databases_is_reported_in_each(
        self, shard: str, broker: RabbitMQ, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setattr(celery_queues, "_FIRST_PAUSE", 60.0)
        refuse(database=shard)
        reported(shard)
        assert is_over("default")

        refuse(database="default")
        reported("default")

        monkeypatch.setattr(celery_queues, "_held", {})
        broker.refuses = False
        dispatch(database=shard)
        eventually(lambda: is_over("default") and is_over(shard), "the end in both")


def metric() -> dict[tuple[str, ...], float]:
    found = families(only=["outbox_queue_refused"])
    return {labels: value for one in found for labels, value in one.samples if value}


@pytest.fixture
def silent(broker: RabbitMQ) -> RefusedQueue:
    refuse()
    return reported()


@pytest.mark.usefixtures("silent")
class TestTheReport:
    def test_is_a_finding_of_the_doctor(self):
        found = {one.part: one for one in doctor.examine_without_broker()}["queue silent"]

        name = heartbeat.own_name()
        assert found.severity == doctor.ERROR
        assert found.text.startswith(f"It has taken no message from {name} for ")
        assert found.text.endswith(f": {CAUSE}.")
        assert "`rabbitmq-queues quorum_status silent`" in found.advice

    def test_is_in_the_health_of_parts(self):
        [found] = [one for one in health_of_parts() if one.queue == "silent"]

        assert (found.is_on, found.is_failing) == (False, True)
        assert CAUSE in found.text

    def test_has_no_cause_for_users_who_may_not_see_failures(self):
        [found] = [one for one in health_of_parts(has_failures=False) if one.queue == "silent"]

        assert found.text.startswith("has taken no message from ")
        assert CAUSE not in found.text

    def test_is_a_metric(self):
        assert metric() == {("silent",): 1}

    def test_is_a_problem_of_the_trigger_silent(self):
        found = problems.find({"silent": LIMITS["silent"]}, using="default").problems

        text = found["silent:queue:silent"].text
        assert text.startswith("The queue silent does not work: has taken no message from ")

    def test_is_in_the_status(self):
        out = StringIO()

        call_command("outbox", "status", stdout=out, no_color=True)

        assert "queue silent: has taken no message from " in out.getvalue()


class TestAQueueThatRefusesATask:
    @pytest.fixture
    def taken(self, celery: Celery, monkeypatch: pytest.MonkeyPatch) -> RabbitMQ:
        """RabbitMQ, which refuses tasks for the queue "silent"."""
        made, send = RabbitMQ(), celery.send_task
        be_rabbitmq(monkeypatch)

        def send_task(*args: Any, **options: Any) -> Any:
            if options["queue"] == "silent":
                made.send()
            return send(*args, **options)

        monkeypatch.setattr(celery, "send_task", send_task)
        return made

    def test_is_reported_until_it_takes_a_task(self, label: Any, sender: Outbox, taken: RabbitMQ):
        label.apply_async(args=[7], queue="silent")
        sender.deliver_all(raise_errors=False)
        assert reported().queue == "silent"
        label.apply_async(args=[7], queue="others")
        sender.deliver_all(raise_errors=False)
        assert not is_over()
        taken.refuses = False

        sender.let_pass(timedelta(days=1))
        sender.deliver_all()

        eventually(is_over, "the end")

    def test_is_over_for_other_processes_when_it_takes_a_task(
        self, label: Any, sender: Outbox, taken: RabbitMQ
    ):
        refuse_another("silent")
        taken.refuses = False
        label.apply_async(args=[7], queue="silent")

        sender.deliver_all()

        eventually(is_over, "the end")


class TestANudgeThatIsRefused:
    @pytest.fixture
    def nudging(self, celery: Celery, monkeypatch: pytest.MonkeyPatch) -> RabbitMQ:
        made, connection = RabbitMQ(), SimpleNamespace(release=lambda: None)
        monkeypatch.setattr(celery_broker, "has_fanout", lambda _connection: True)
        monkeypatch.setattr(celery_broker, "_connect", lambda _app: connection)
        monkeypatch.setattr(celery_broker, "_send", made.send)
        return made

    def test_is_reported_in_each_database_until_one_is_taken(self, shard: str, nudging: RabbitMQ):
        transport = CeleryTransport()
        with pytest.raises(OperationalError):
            transport.nudge()
        assert {reported(using).queue for using in BOTH} == {NUDGES}
        assert "list_queues name state" in reported(shard).next_step
        nudging.refuses = False

        transport.nudge()

        eventually(lambda: is_over("default") and is_over(shard), "the end in both")

    def test_is_sent_again_although_nobody_emits(
        self, nudging: RabbitMQ, monkeypatch: pytest.MonkeyPatch
    ):
        """Otherwise a process that emits seldom would report it until then."""
        monkeypatch.setattr(nudge, "_IDLE_SECONDS", 0.02)
        monkeypatch.setattr(nudge, "_PAUSE_AFTER_FAILURE", 0.0)
        monkeypatch.setattr(names, "in_use", lambda: ["celery"])
        nudge._Nudger().request("default")
        reported()
        nudging.refuses = False

        eventually(is_over, "the end")


class TestRefusedNudges:
    """Failed: an error, and a light as for dead letters. Relays poll, so all is delivered."""

    def test_are_a_warning_of_the_doctor(self):
        refuse_another(NUDGES)

        found = {one.part: one for one in doctor.examine_without_broker()}[f"queue {NUDGES}"]

        assert found.severity == doctor.WARNING
        assert "Until then relays poll." in found.advice

    def test_are_the_least_trouble_of_the_light(self, monkeypatch: pytest.MonkeyPatch):
        refuse_another(NUDGES)
        parts = [one for one in health_of_parts() if one.queue == NUDGES]
        monkeypatch.setattr(light, "health_of_parts", lambda **_options: parts)

        assert light.light() == light.Light(Condition.HELD, f"queue {NUDGES} failing")


class TestAProcessThatForks:
    def test_reports_nothing_for_its_child(self, broker: RabbitMQ):
        refuse()
        reported()
        before = celery_refusals._refusals
        try:
            celery_refusals._renew()
            assert celery_refusals.own_queues() == set()
        finally:
            celery_refusals._refusals = before
