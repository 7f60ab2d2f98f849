"""The migration guides, each followed word for word in a small project of its kind.

At the moment of the switch the old package owes messages. None may be lost or have two effects.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs import migrating
from tests.docs.migrating import Begin
from tests.docs.pages import Page
from tests.docs.projects import BROKER
from tests.processes import eventually
from tests.servers.brokers import StompServer, ValkeyServer
from tests.servers.server import ServerMissing

pytestmark = [pytest.mark.processes, pytest.mark.once, pytest.mark.timeout(300)]

begin = migrating.begin

INIT = "python manage.py outbox init"
CHECK = "python manage.py check --deploy"
WORKER = "celery -A shop worker --loglevel INFO"
RECEIVE = "python manage.py outbox receive"


class TestTheGuideFromOnCommit:
    PAGE = Page("docs/migrate/from-on-commit.md")
    LOSE = "from orders.models import Order; Order.objects.create(total=2)"

    def test_loses_no_task_and_runs_none_twice(self, begin: Begin, valkey: ValkeyServer):
        project = begin(self.PAGE, "django", "celery[redis]", replaced={BROKER: valkey.url})
        step = self.PAGE.section
        project.place(1)  # its task waits in the broker
        project.evaluate(self.LOSE)

        project.follow(step("1. Install the outbox"))
        assert "Nothing is missing." in project.outputs[INIT]
        project.eventually_has_invoices_of(1)

        project.follow(step("2. Store the tasks with the transaction"))
        assert all(text in project.outputs[CHECK] for text in self.PAGE.blocks("text")[1:])
        project.restart(WORKER)
        project.place(3)
        project.eventually_has_invoices_of(1, 3)

        project.follow(step("3. Add an event and its handler"))
        project.restart(WORKER)
        project.follow(step("4. Emit the event instead"))
        project.place(4)
        project.eventually_has_invoices_of(1, 3, 4)
        project.follow(step("5. Look at it"))

        project.change(step("4. Emit the event instead"), reverse=True)
        project.place(5)
        project.follow(step("Roll back"))
        project.eventually_has_invoices_of(1, 3, 4, 5)
        project.change(step("4. Emit the event instead"))

        project.follow(step("6. Remove the task"))
        project.eventually_has_invoices_of(1, 2, 3, 4, 5)
        assert project.owes_nothing("orders.invoice_order")


class TestTheGuideFromDomainEvents:
    PAGE = Page("docs/migrate/from-django-domain-events.md")
    COUNTS = re.compile(r"^(?:owed|scheduled|claimed) +(\d+)$", re.MULTILINE)

    def test_delivers_each_event_once(self, begin: Begin):
        project = begin(self.PAGE, "django", "django-domain-events", replaced={})
        step = self.PAGE.section
        project.place(1)

        project.follow(step("1. Install the outbox"))
        project.follow(step("2. Move the old events, and declare them again"))
        assert "Nothing is missing." in project.outputs[INIT]
        project.place(2)

        project.follow(step("3. Emit instead of firing"))
        project.place(3)
        project.eventually_has_invoices_of(3)
        project.follow(step("4. Let the old relay finish"))
        counts = self.COUNTS.findall(project.outputs["python manage.py events_status"])
        assert counts == ["0", "0", "0"]
        project.eventually_has_invoices_of(1, 2, 3)
        project.follow(step("5. Look at it"))

        project.change(step("3. Emit instead of firing"), reverse=True)
        project.place(4)
        project.follow(step("Roll back"))
        project.follow(step("4. Let the old relay finish"))
        project.eventually_has_invoices_of(1, 2, 3, 4)
        project.follow(step("3. Emit instead of firing"))

        project.follow(step("6. Remove django-domain-events"))
        project.place(5)
        project.eventually_has_invoices_of(1, 2, 3, 4, 5)
        assert project.owes_nothing("orders.invoice_order")


@pytest.fixture
def stomp(tmp_path: Path) -> Iterator[StompServer]:
    """RabbitMQ with its plugin for STOMP."""
    try:
        server = StompServer(tmp_path / "rabbitmq")
    except ServerMissing as error:
        pytest.skip(str(error))
    with server:
        yield server


EXPIRE = """
from django.utils import timezone
from django_outbox_pattern.models import Published
Published.objects.filter(status=1).update(expires_at=timezone.now())
"""
SEND_AGAIN = """
from django_outbox_pattern.models import Published
Published.objects.update(status=1)
"""


class TestTheGuideFromOutboxPattern:
    PAGE = Page("docs/migrate/from-django-outbox-pattern.md")
    SUBSCRIBE = "python manage.py subscribe orders.callbacks.create_invoice /topic/orders {queue}"
    NOT_SENT = "SELECT count(*) FROM published WHERE status = 1"

    def test_exchanges_each_message_once_with_a_service_that_stays(
        self, begin: Begin, stomp: StompServer
    ):
        replaced = {"amqp://guest:guest@localhost:5672//": stomp.url, "61613": str(stomp.port)}
        project = begin(self.PAGE, "django", "django-outbox-pattern", replaced=replaced)
        step = self.PAGE.section
        other = project.copy()
        project.invoices = other.invoices = "SELECT total FROM orders_invoice ORDER BY total"
        other.start("python manage.py publish")
        other.start(self.SUBSCRIBE.format(queue="others"))
        eventually(lambda: stomp.has_queue("invoicing"), "the project's queue")
        eventually(lambda: stomp.has_queue("others"), "the other service's queue")
        project.place(1)
        project.eventually_has_invoices_of(1)
        other.eventually_has_invoices_of(1)
        project.stop("publish")
        project.place(2)  # it waits in the table
        project.evaluate(EXPIRE)

        project.follow(step("1. Install the outbox"))
        project.follow(step("2. Add the event, and publish it in the old format"))
        assert "Nothing is missing." in project.outputs[INIT]
        project.follow(step("3. Emit instead of publishing the model"))
        project.place(3)
        other.eventually_has_invoices_of(1, 3)
        project.start("python manage.py publish")
        project.follow(step("4. Let the old publisher finish"))
        project.eventually_has_invoices_of(1, 2, 3)

        project.stop("subscribe")
        other.place(4)  # it waits in the queue
        project.evaluate(SEND_AGAIN)
        project.follow(step("5. Receive the queue by a source"))
        project.restart(WORKER)
        project.eventually_has_invoices_of(1, 2, 3, 4)
        project.follow(step("6. Look at it"))
        eventually(lambda: project.select(self.NOT_SENT) == [0], "an empty table")
        project.stop("publish")

        project.stop("outbox receive")
        eventually(lambda: project.owes_nothing("orders.create_invoice"), "nothing is owed")
        project.change(step("3. Emit instead of publishing the model"), reverse=True)
        project.follow(step("Roll back"))
        project.place(5)
        for one in (project, other):
            one.eventually_has_invoices_of(1, 2, 3, 4, 5)
        eventually(lambda: project.select(self.NOT_SENT) == [0], "an empty table")
        project.stop("publish")
        project.stop("subscribe")
        project.change(step("3. Emit instead of publishing the model"))
        project.enter(RECEIVE)

        project.follow(step("7. Remove django-outbox-pattern"))
        project.restart(RECEIVE)
        project.restart(WORKER)
        project.place(6)
        for one in (project, other):
            one.eventually_has_invoices_of(1, 2, 3, 4, 5, 6)
        assert project.owes_nothing("orders.create_invoice")
