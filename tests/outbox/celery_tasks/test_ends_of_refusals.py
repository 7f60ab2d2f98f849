"""A refusal ends by the times of messages and refusals, whoever sends, and delays no sender."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import Any

import pytest
from celery import Celery
from django.db import DatabaseError, connection
from django.test.utils import CaptureQueriesContext

import outbox.tasks  # noqa: F401  registers the task that a relay sends
from outbox.deliveries import heartbeat, refusals
from outbox.models import Heartbeat
from outbox.monitor.health import Heartbeats
from outbox.testing import Outbox
from outbox.transports import (
    celery_refusals,
    refusal_keeper,
)
from tests.processes import eventually

from .refusals import (
    CAUSE,
    RabbitMQ,
    dispatch,
    is_over,
    refuse,
    refuse_another,
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


class TestARefusal:
    def test_is_over_when_the_message_came_before_the_refusals_were_read(
        self, broker: RabbitMQ, monkeypatch: pytest.MonkeyPatch
    ):
        """Failed: it was reported until the next message for this queue, perhaps for hours."""
        broker.refuses = False
        dispatch("other")
        refuse_another("silent")
        dispatch()
        assert not is_over(), "The refusals were read before."

        monkeypatch.setattr(refusal_keeper, "_READ_SECONDS", 0.0)
        monkeypatch.setattr(refusal_keeper, "_heartbeat", lambda: 60.0)
        dispatch("other")
        monkeypatch.setattr(refusal_keeper, "_heartbeat", lambda: 0.02)
        next(iter(celery_refusals._refusals._keepers.values()))._changed.set()

        eventually(is_over, "the end")

    def test_is_over_although_the_first_try_to_remove_it_fails(
        self, broker: RabbitMQ, monkeypatch: pytest.MonkeyPatch
    ):
        """Failed: the queue was forgotten until its next message."""
        end, tries = refusals.end, list[str]()

        def fail_once(*args: Any, **options: Any) -> Any:
            tries.append("end")
            if len(tries) == 1:
                raise DatabaseError("database is locked")
            return end(*args, **options)

        monkeypatch.setattr(refusals, "end", fail_once)
        refuse_another("silent")
        broker.refuses = False

        dispatch()

        eventually(is_over, "the end")
        assert len(tries) > 1

    def test_is_not_over_while_it_refuses_some_of_the_messages(
        self, broker: RabbitMQ, monkeypatch: pytest.MonkeyPatch
    ):
        """Failed: each message that a full queue took ended the report, so no alert began."""
        monkeypatch.setattr(refusal_keeper, "_heartbeat", lambda: 60.0)
        refuse()
        since = reported().since
        [keeper] = celery_refusals._refusals._keepers.values()
        for _ in range(2):
            broker.refuses = False
            dispatch()
            keeper._keep()
            broker.refuses = True
            refuse()
            keeper._keep()

        assert reported().since == since

    def test_is_not_over_if_it_was_refused_after_the_message(self):
        """Failed: a removal that was delayed removed a later refusal, too."""
        refuse_another("silent")
        now = Heartbeats().now

        left = refusals.end({"silent": now - timedelta(hours=1)}, now, own="", using="default")

        assert not left
        assert not is_over()

    @pytest.mark.postgresql
    def test_waits_for_no_other_process(self, broker: RabbitMQ):
        """Failed: a relay waited for a process that was frozen while it used its row."""
        refuse_another("silent")
        broker.refuses = False
        frozen = connection.copy()
        frozen.set_autocommit(False)
        try:
            with frozen.cursor() as cursor:
                cursor.execute("SELECT 1 FROM outbox_heartbeat WHERE kind = 'sender' FOR UPDATE")

            dispatch()
            [keeper] = celery_refusals._refusals._keepers.values()
            assert keeper._ending, "The thread waits for the row."
            assert not is_over()
        finally:
            frozen.close()

        eventually(is_over, "the end")

    def test_has_a_row_for_each_of_two_processes_with_one_name(self, broker: RabbitMQ):
        """Failed: containers may share their host's name and have one process id."""
        refuse()
        reported()
        first = celery_refusals._refusals
        try:
            celery_refusals._refusals = celery_refusals._Refusals()
            celery_refusals.note("silent", CAUSE, using="default")

            eventually(lambda: Heartbeat.objects.filter(kind="sender").count() == 2, "two rows")
            assert reported().processes == (heartbeat.own_name(),) * 2
        finally:
            second, celery_refusals._refusals = celery_refusals._refusals, first
            second.end_own("silent")
            eventually(lambda: not second.own(), "the end of the second")

    def test_is_in_the_log_only_if_no_thread_can_be_started(
        self, broker: RabbitMQ, monkeypatch: pytest.MonkeyPatch
    ):
        """Failed: this error hid the refusal, and nothing was reported later."""

        def fail(*_args: Any) -> None:
            raise RuntimeError("can't start new thread")

        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", fail)
            refuse()
        refuse()

        assert reported().queue == "silent"


class TestAnotherBroker:
    def test_is_not_asked_for_refusals(
        self, celery: Celery, label: Any, sender: Outbox, django_assert_num_queries: Any
    ):
        """Failed: a relay with Redis or SQS read the heartbeats every four seconds."""
        before = celery_refusals._refusals
        celery_refusals._renew()
        try:
            with django_assert_num_queries(0):
                dispatch()
            label.apply_async(args=[7])
            with CaptureQueriesContext(connection) as sent:
                sender.deliver_all()
        finally:
            celery_refusals._refusals = before

        assert not [one["sql"] for one in sent if "outbox_heartbeat" in one["sql"]]
