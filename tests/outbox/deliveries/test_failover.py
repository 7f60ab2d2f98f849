"""After a failover to an asynchronous standby, a new event can have the ids of a lost one.

A real standby is promoted while a worker runs a handler for an event that the standby lacks.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import pytest
from django.db import connection, connections

from outbox import DomainEvent, Receipt, subscribe
from outbox.deliveries.sync import sync_subscriptions
from outbox.models import Attempt, Delivery, Event
from outbox.testing import Outbox
from outbox.transports.base import Message
from outbox.worker.delivery import deliver
from tests.databases import own_postgresql
from tests.link import Link
from tests.outbox.drive import run_message, run_pass
from tests.standby import Standby, standby_of
from tests.threads import aside

ROOT = Path(__file__).resolve().parents[3]

pytestmark = [
    pytest.mark.postgresql,
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("own_registry", "no_nudge"),
]


class Counted(DomainEvent, key="order_id"):
    order_id: UUID


class Cluster:
    """A primary and its standby, and the link from this test to one of them."""

    def __init__(self, standby: Standby, link: Link) -> None:
        self.standby = standby
        self.link = link

    def fail_over(self) -> None:
        """Lose the primary, and its commits since replication stopped."""
        self.standby.promote()
        at = urlsplit(self.standby.url)
        self.link.target = (str(at.hostname), int(at.port or 0))
        self.link.cut()
        self.link.mend()


def emit_and_send() -> Message:
    Outbox().given("tests.Counted", order_id=uuid4())
    [message] = run_pass()
    return message


class Handler:
    """A handler whose first run is for the event that gets lost."""

    def __init__(self) -> None:
        self.how = ""
        self.done: list[UUID] = []
        self.cluster: Cluster | None = None
        self.message: Message | None = None

    def __call__(self, order_id: UUID, receipt: Receipt) -> None:
        if self.cluster is not None:
            cluster, self.cluster = self.cluster, None
            cluster.fail_over()
            aside(self.send_another)
            connections["default"].close()
            if self.how == "raises":
                raise ValueError("the bank is away")
            if self.how == "extends":
                receipt.extend()
        with receipt:
            self.done.append(order_id)

    def send_another(self) -> None:
        self.message = emit_and_send()


@pytest.fixture
def handler(own_registry: None) -> Handler:
    handler = Handler()

    @subscribe("tests.Counted", atomic=False, attempts=1)
    def count(order_id: UUID, receipt: Receipt) -> None:
        handler(order_id, receipt)

    return handler


@pytest.fixture(scope="module")
def primary() -> Iterator[str]:
    """The address of a server with all tables."""
    with own_postgresql() as server:
        url = server.start()
        subprocess.run(
            [sys.executable, "manage.py", "migrate", "-v0"],
            cwd=ROOT,
            env={**os.environ, "DATABASE_URL": url},
            check=True,
        )
        yield url


@pytest.fixture
def cluster(handler: Handler, primary: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """Replication has stopped, so the standby lacks later commits."""
    at = urlsplit(primary)
    with Link((str(at.hostname), int(at.port or 0))) as link:
        settings = {
            **connections["default"].settings_dict,
            "HOST": "127.0.0.1",
            "PORT": link.port,
            "NAME": at.path[1:],
            "USER": at.username,
            "PASSWORD": at.password,
        }
        connections["default"].close()
        monkeypatch.setitem(connections.settings, "default", settings)
        monkeypatch.setattr(connections["default"], "settings_dict", settings)
        with connection.cursor() as cursor:  # as if nothing was ever stored
            cursor.execute("TRUNCATE outbox_event, outbox_subscription RESTART IDENTITY CASCADE")
        sync_subscriptions()
        with standby_of(primary) as standby:
            standby.stop_receiving()
            yield Cluster(standby, link)
            connections["default"].close()


class TestAWorkerWhoseEventWasLost:
    @pytest.mark.parametrize("how", ["gives its receipt", "raises", "extends"])
    def test_settles_no_delivery_of_a_new_event_with_the_same_ids(
        self, handler: Handler, cluster: Cluster, how: str
    ):
        """Failed while a receipt named its delivery by id and token: the new one was done unrun."""
        lost = emit_and_send()
        handler.cluster, handler.how = cluster, how

        deliver(handler_name=lost.handler, pairs=lost.pairs, worker="w1")

        assert handler.message is not None
        assert handler.message.pairs == lost.pairs, "the new delivery has the ids of the lost one"
        assert Delivery.objects.get().state == "sent"
        assert not Attempt.objects.exists()
        handler.done.clear()

        message = replace(handler.message)
        run_message(message, worker="w2")

        assert handler.done == [UUID(Event.objects.get().key)]
        assert Delivery.objects.get().state == "done"
