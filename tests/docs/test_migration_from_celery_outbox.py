"""The guide from django-celery-outbox, whose relay needs PostgreSQL."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest

from tests.docs import migrating
from tests.docs.migrating import Begin
from tests.docs.pages import Page
from tests.docs.projects import BROKER
from tests.processes import eventually
from tests.servers.brokers import ValkeyServer

pytestmark = [pytest.mark.processes, pytest.mark.postgresql, pytest.mark.timeout(300)]

begin = migrating.begin

INIT = "python manage.py outbox init"


class TestTheGuideFromCeleryOutbox:
    PAGE = Page("docs/migrate/from-django-celery-outbox.md")
    STORED = "SELECT count(*) FROM celery_outbox"

    def test_sends_the_tasks_of_both_tables_once(
        self, begin: Begin, valkey: ValkeyServer, database: str
    ):
        packages = ("django", "celery[redis]", "psycopg[binary]", "django-celery-outbox")
        name = '"NAME": "{}"'
        replaced = {
            BROKER: valkey.url,
            name.format("shop"): name.format(urlsplit(database).path.lstrip("/")),
        }
        project = begin(self.PAGE, *packages, replaced=replaced, database=database)
        step = self.PAGE.section
        project.place(1)  # its task waits in the table

        project.follow(step("1. Install the outbox"))
        project.place(2)
        project.follow(step("2. Change the app and the tasks"))
        assert "Nothing is missing." in project.outputs[INIT]
        [others] = [text for command, text in project.outputs.items() if "current_app" in command]
        assert others.splitlines()[-1] == "['django_celery_outbox.tasks.purge_dead_letter']"
        project.place(3)
        project.eventually_has_invoices_of(3)
        assert project.select(self.STORED) == [2]

        project.follow(step("3. Let the old relay finish"))
        project.eventually_has_invoices_of(1, 2, 3)
        eventually(lambda: project.select(self.STORED) == [0], "an empty table")
        project.follow(step("4. Look at it"))

        project.change(step("2. Change the app and the tasks"), reverse=True)
        project.place(4)
        project.follow(step("Roll back"))
        project.eventually_has_invoices_of(1, 2, 3, 4)
        project.change(step("2. Change the app and the tasks"))

        project.stop("celery_outbox_relay")
        project.follow(step("5. Remove django-celery-outbox"))
        project.place(5)
        project.eventually_has_invoices_of(1, 2, 3, 4, 5)
        # A task may end before the receipt of its sending is stored.
        eventually(lambda: project.owes_nothing("outbox.send_tasks"), "the receipt of each sending")
