"""The migration guides, each followed word for word in a small project of its kind.

Some messages are owed by the old package at the moment of the switch, and none may be lost or
have two effects.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.docs.environments import Environment
from tests.docs.pages import Page
from tests.docs.projects import BROKER, Project
from tests.package.built import Distribution
from tests.processes import eventually
from tests.servers.brokers import StompServer, ValkeyServer
from tests.servers.server import ServerMissing

pytestmark = [pytest.mark.processes, pytest.mark.once, pytest.mark.timeout(300)]

#: Addresses on a page, in place of which those of the test are used.
AMQP = "amqp://guest:guest@localhost:5672//"
STOMP = "61613"

#: What the example of each guide was installed with, at the releases of the pins.
COMMON = ("django", "celery[redis]")

PLACE = "from orders.services import place_order; place_order({total})"
EXPIRE = """
from django.utils import timezone
from django_outbox_pattern.models import Published
Published.objects.filter(status=1).update(expires_at=timezone.now())
"""
SEND_AGAIN = (
    "from django_outbox_pattern.models import Published; Published.objects.update(status=1)"
)
LOSE = "from orders.models import Order; Order.objects.create(total={total})"
INVOICES = """
SELECT total FROM orders_invoice JOIN orders_order ON orders_order.id = order_id ORDER BY total
"""
RECEIVED = "SELECT total FROM orders_invoice ORDER BY total"

Begin = Callable[..., Project]


@pytest.fixture
def begin(tmp_path: Path, distribution: Distribution) -> Iterator[Begin]:
    """Return a function that makes the example of a guide, in an environment with packages."""
    begun: list[Project] = []

    def make(page: Page, *packages: str, replaced: dict[str, str]) -> Project:
        environment = Environment(tmp_path, wheels=distribution.wheel.parent)
        environment.install(packages)
        (tmp_path / "project").mkdir()
        project = Project(tmp_path / "project", environment, replaced)
        begun.append(project)
        project.follow(page.section("The example"))
        return project

    yield make
    for project in begun:
        project.close()


@pytest.fixture
def stomp(tmp_path: Path) -> Iterator[StompServer]:
    """RabbitMQ with its plugin for STOMP."""
    try:
        server = StompServer(tmp_path / "rabbitmq")
    except ServerMissing as error:
        pytest.skip(str(error))
    with server:
        yield server


def place(project: Project, total: int) -> None:
    project.evaluate(PLACE.format(total=total))


def numbers(project: Project, statement: str) -> list[int]:
    """Return what a statement selects from the project's database on SQLite."""
    with closing(sqlite3.connect(project.folder / "db.sqlite3")) as connection:
        return [number for (number,) in connection.execute(statement)]


def eventually_invoiced(project: Project, *totals: int, by: str = INVOICES) -> None:
    eventually(lambda: numbers(project, by) == [*totals], f"invoices of {totals}")


def assert_nothing_is_owed(project: Project) -> None:
    lines = project.run("python manage.py outbox status").splitlines()
    owed = [line.split()[1:7] for line in lines if line.startswith("orders.")]
    assert owed == [["0"] * 6], lines


class TestTheGuideFromOnCommit:
    PAGE = Page("docs/migrate/from-on-commit.md")

    def test_loses_no_task_and_runs_none_twice(self, begin: Begin, valkey: ValkeyServer):
        project = begin(self.PAGE, *COMMON, replaced={BROKER: valkey.url})
        step = self.PAGE.section
        place(project, 1)  # its task waits in the broker
        project.evaluate(LOSE.format(total=2))

        project.follow(step("1. Install the outbox"))
        project.follow(step("2. Add the event and its handler"))
        assert "Nothing is missing." in project.outputs["python manage.py outbox init"]
        eventually_invoiced(project, 1)

        project.follow(step("3. Emit the event instead"))
        place(project, 3)
        eventually_invoiced(project, 1, 3)
        project.follow(step("4. Look at it"))

        project.revert(step("3. Emit the event instead"))
        place(project, 4)
        project.follow(step("Roll back"))
        eventually_invoiced(project, 1, 3, 4)
        project.follow(step("3. Emit the event instead"))

        project.follow(step("5. Remove the task"))
        eventually_invoiced(project, 1, 2, 3, 4)
        assert_nothing_is_owed(project)


class TestTheGuideFromDomainEvents:
    PAGE = Page("docs/migrate/from-django-domain-events.md")

    def test_delivers_each_event_once(self, begin: Begin, valkey: ValkeyServer):
        project = begin(self.PAGE, "django", "django-domain-events", replaced={BROKER: valkey.url})
        step = self.PAGE.section
        place(project, 1)

        project.follow(step("1. Install the outbox"))
        project.follow(step("2. Move the old events, and declare them again"))
        assert "Nothing is missing." in project.outputs["python manage.py outbox init"]
        place(project, 2)

        project.follow(step("3. Emit instead of firing"))
        place(project, 3)
        eventually_invoiced(project, 3)
        project.follow(step("4. Let the old relay finish"))
        assert re.findall(
            r"^(?:owed|scheduled|claimed) +(\d+)$",
            project.outputs["python manage.py events_status"],
            re.MULTILINE,
        ) == ["0", "0", "0"]
        eventually_invoiced(project, 1, 2, 3)
        project.follow(step("5. Look at it"))

        project.revert(step("3. Emit instead of firing"))
        place(project, 4)
        project.follow(step("Roll back"))
        project.follow(step("4. Let the old relay finish"))
        eventually_invoiced(project, 1, 2, 3, 4)
        project.follow(step("3. Emit instead of firing"))

        project.follow(step("6. Remove django-domain-events"))
        place(project, 5)
        eventually_invoiced(project, 1, 2, 3, 4, 5)
        assert_nothing_is_owed(project)


class TestTheGuideFromOutboxPattern:
    PAGE = Page("docs/migrate/from-django-outbox-pattern.md")
    SUBSCRIBE = "python manage.py subscribe orders.callbacks.create_invoice /topic/orders {queue}"
    OWED = "SELECT count(*) FROM published WHERE status = 1"

    def test_exchanges_each_message_once_with_a_service_that_stays(
        self, begin: Begin, stomp: StompServer
    ):
        replaced = {AMQP: stomp.url, STOMP: str(stomp.stomp_port)}
        project = begin(self.PAGE, "django", "django-outbox-pattern", replaced=replaced)
        step = self.PAGE.section
        other = project.copy()
        other.start("python manage.py publish")
        other.start(self.SUBSCRIBE.format(queue="others"))
        for queue in ("invoicing", "others"):
            eventually(lambda queue=queue: stomp.has_queue(queue), f"the queue {queue}")
        place(project, 1)
        eventually_invoiced(project, 1, by=RECEIVED)
        eventually_invoiced(other, 1, by=RECEIVED)
        project.stop("publish")
        place(project, 2)  # it waits in the table
        project.evaluate(EXPIRE)

        project.follow(step("1. Install the outbox"))
        project.follow(step("2. Add the event, and publish it in the old format"))
        assert "Nothing is missing." in project.outputs["python manage.py outbox init"]
        project.follow(step("3. Emit instead of publishing the model"))
        place(project, 3)
        eventually_invoiced(other, 1, 3, by=RECEIVED)
        project.start("python manage.py publish")
        project.follow(step("4. Let the old publisher finish"))
        eventually(lambda: numbers(project, self.OWED) == [0], "an empty table")
        eventually_invoiced(project, 1, 2, 3, by=RECEIVED)

        project.stop("subscribe")
        place(other, 4)  # it waits in the queue
        project.evaluate(SEND_AGAIN)
        project.follow(step("5. Receive the queue by a source"))
        project.stop("celery -A shop worker")
        project.enter("celery -A shop worker --loglevel INFO")
        eventually_invoiced(project, 1, 2, 3, 4, by=RECEIVED)
        project.follow(step("6. Look at it"))
        eventually(lambda: numbers(project, self.OWED) == [0], "an empty table")
        project.stop("publish")

        project.follow(step("7. Remove django-outbox-pattern"))
        project.stop("celery -A shop worker")
        project.enter("celery -A shop worker --loglevel INFO")
        place(project, 5)
        for one in (project, other):
            eventually_invoiced(one, 1, 2, 3, 4, 5, by=RECEIVED)
        assert_nothing_is_owed(project)
