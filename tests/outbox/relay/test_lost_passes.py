"""A pass does not wait for the disk, so a crash of the database may lose it.

So a delivery's number may come a second time, and the broker may still have the first one.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from uuid import UUID

import environ
import pytest
from django.contrib.auth.models import Group
from django.core.management import call_command
from django.db import OperationalError, connection, transaction

from outbox import DomainEvent, subscribe
from outbox.models import Delivery, Event, Subscription
from outbox.relay.passes import relay_pass
from outbox.tasks import deliver_message
from outbox.transports.base import Message
from outbox.transports.inline import InlineTransport
from outbox.worker.delivery import deliver, deliver_started
from tests.databases import EmbeddedPostgres
from tests.outbox.drive import emit_events
from tests.processes import eventually

pytestmark = pytest.mark.usefixtures("own_registry", "no_nudge")


class Numbered(DomainEvent, key="order_id"):
    order_id: UUID


def publish_due(**how: Any) -> list[Message]:
    messages: list[Message] = []
    relay_pass(publish=messages.append, **how)
    return messages


def count_runs(message: Message, **how: Any) -> int:
    """Run a message as a worker does, and return the number of deliveries that ran."""
    arguments = {"subscription": message.subscription, "worker": "w1", **how}
    return len(deliver(handler_name=message.handler, pairs=message.pairs, **arguments))


class Committed:
    """Records whether each statement that commits in its own round trip waits for the disk."""

    def __init__(self) -> None:
        self.waits: list[bool] = []

    def __call__(self, execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        if "COMMIT" in sql:
            self.waits.append("synchronous_commit = off" not in sql)
        return execute(sql, params, many, context)


def setting() -> str:
    with connection.cursor() as cursor:
        cursor.execute("SHOW synchronous_commit")
        return str(cursor.fetchone()[0])


@pytest.mark.postgresql
@pytest.mark.django_db(transaction=True)
class TestAPass:
    def test_does_not_wait_for_the_disk(self):
        @subscribe("tests.Numbered")
        def keep() -> None: ...

        emit_events("tests.Numbered")
        committed = Committed()
        with connection.execute_wrapper(committed):
            publish_due()

        assert committed.waits == [False]
        assert setting() == "on"
        assert Delivery.objects.get().state == "sent"

    def test_waits_for_the_disk_if_it_starts_an_inline_delivery(self):
        """Seen to fail with `read_last` for every pass: a handler ran, and nobody knew of it."""

        @subscribe("tests.Numbered", inline=True)
        def keep() -> None: ...

        emit_events("tests.Numbered")
        inline = InlineTransport("w1", deliver_started)
        committed = Committed()
        with connection.execute_wrapper(committed):
            publish_due(inline=inline)

        assert inline.started
        assert committed.waits == []

    def test_leaves_the_transaction_of_a_caller_open(self):
        """Seen to fail without the question whose transaction it is."""

        @subscribe("tests.Numbered")
        def keep() -> None: ...

        emit_events("tests.Numbered")
        with transaction.atomic():
            publish_due()
            assert setting() == "on"
            transaction.set_rollback(True)

        assert not Delivery.objects.exists()


@pytest.mark.django_db(transaction=True)
class TestAMessageOfAnotherDelivery:
    @pytest.mark.parametrize("ordered", [False, True])
    def test_starts_no_delivery_of_another_subscription(self, ordered: bool):
        """Seen to fail, on either way, without the subscription: the wrong handler ran."""
        ran = []

        @subscribe("tests.Numbered", ordered=ordered)
        def keep() -> None:
            ran.append("keep")

        @subscribe("tests.Numbered", ordered=ordered)
        def count() -> None:
            ran.append("count")

        emit_events("tests.Numbered")
        by_handler = {message.handler: message for message in publish_due()}
        keeps, counts = by_handler["tests.keep"], by_handler["tests.count"]
        stale = Message(keeps.handler, keeps.queue, keeps.subscription, counts.pairs)

        assert count_runs(stale) == 0
        assert count_runs(counts) == 1
        assert ran == ["count"]

    def test_starts_no_delivery_as_a_task_either(self):
        """Seen to fail with the subscription not handed on by `deliver_message`."""
        ran = []

        @subscribe("tests.Numbered")
        def keep() -> None:
            ran.append("keep")

        emit_events("tests.Numbered")
        [message] = publish_due()
        named = {"handler": message.handler, "pairs": message.pairs}

        deliver_message.apply(kwargs={**named, "subscription": message.subscription + 1})
        assert ran == []
        deliver_message.apply(kwargs={**named, "subscription": message.subscription})
        assert ran == ["keep"]

    def test_releases_no_delivery_of_another_subscription_if_its_handler_is_unknown(self):
        """Seen to fail without the subscription: the other one waited for five seconds."""

        @subscribe("tests.Numbered")
        def keep() -> None: ...

        emit_events("tests.Numbered")
        [message] = publish_due()
        stale = replace(message, handler="tests.gone", subscription=message.subscription + 1)

        assert count_runs(stale) == 0
        assert Delivery.objects.get().state == "sent"
        assert count_runs(replace(message, handler="tests.gone")) == 0
        assert Delivery.objects.get().state == "pending"

    def test_of_an_older_relay_that_names_no_subscription_is_delivered(self):
        @subscribe("tests.Numbered")
        def keep() -> None: ...

        emit_events("tests.Numbered")
        [message] = publish_due()

        assert count_runs(message, subscription=None) == 1


@pytest.fixture
def crashing(transactional_db: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A separate PostgreSQL server that may crash, as the default database."""
    # The commit of an autovacuum would write the lost pass to the disk.
    with EmbeddedPostgres(settings={"autovacuum": "off"}) as url:
        connection.close()
        for name, value in environ.Env.db_url_config(url).items():
            monkeypatch.setitem(connection.settings_dict, name, value)
        call_command("migrate", verbosity=0)
        yield
        connection.close()
        monkeypatch.undo()


@contextmanager
def nothing_reaches_the_disk() -> Iterator[None]:
    """Stop the background writers, then crash the server, and wait until it is back."""
    writer = _walwriter()
    assert writer
    os.kill(writer, signal.SIGSTOP)
    yield
    os.kill(writer, signal.SIGKILL)
    eventually(lambda: _walwriter() not in (None, writer), "it is back", within=60)


def _walwriter() -> int | None:
    connection.close()
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pid FROM pg_stat_activity WHERE backend_type = 'walwriter'")
            found = cursor.fetchone()
    except OperationalError:
        return None
    return int(found[0]) if found else None


@pytest.mark.postgresql
class TestALostPass:
    @pytest.mark.usefixtures("crashing")
    def test_is_repeated_and_both_messages_run_a_handler_once(self):
        """Rules 6 and 7. The first assertion fails if the pass waits for the disk."""

        @subscribe("tests.Numbered")
        def keep(order_id: UUID) -> None:
            Group.objects.create(name=str(order_id))

        emit_events("tests.Numbered")
        with nothing_reaches_the_disk():
            [lost] = publish_due()
        assert not Delivery.objects.exists()
        assert Event.objects.filter(fanned_out_at=None).count() == 1
        assert count_runs(lost) == 0

        [message] = publish_due()
        assert message.pairs == lost.pairs
        assert [count_runs(lost), count_runs(message)] == [1, 0]

        assert Group.objects.count() == 1
        assert Delivery.objects.values_list("state", "attempts").get() == ("done", 1)
        assert Subscription.objects.count() == 1
