"""A project works if Celery and kombu are not installed."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.processes import Running

ROOT = Path(__file__).resolve().parents[3]

SETTINGS = """
import sys

# Importing them raises ModuleNotFoundError, and find_spec() finds none.
sys.modules.update(dict.fromkeys(["celery", "kombu", "billiard", "vine", "amqp"]))

SECRET_KEY = "of a test"
USE_TZ = DEBUG = True
ROOT_URLCONF = "plain_urls"
ALLOWED_HOSTS = ["testserver"]
STATIC_URL = "/static/"
OUTBOX = {"GUARD_TASKS": True}
INSTALLED_APPS = [
    "outbox",
    "plain",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "outbox.context.RequestContextMiddleware",
]
TEMPLATES = [{
    "BACKEND": "django.template.backends.django.DjangoTemplates",
    "APP_DIRS": True,
    "OPTIONS": {"context_processors": [
        "django.template.context_processors.request",
        "django.contrib.auth.context_processors.auth",
        "django.contrib.messages.context_processors.messages",
    ]},
}]
DATABASES = {"default": {
    "ENGINE": "django.db.backends.sqlite3",
    "NAME": "plain.sqlite3",
    "OPTIONS": {
        "transaction_mode": "IMMEDIATE",
        "timeout": 30,
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;",
    },
}}
"""

URLS = """
from django.contrib import admin
from django.urls import path

urlpatterns = [path("admin/", admin.site.urls)]
"""

EVENTS = """
from outbox import DomainEvent


class Placed(DomainEvent, key="order_id"):
    order_id: str
"""

HANDLERS = """
import logging

from outbox import subscribe


@subscribe("plain.Placed")
def count(order_id: str) -> None:
    print(f"counted {order_id}")
    logging.getLogger(__name__).info("logged %s", order_id)
"""

DELIVER = """
import django

django.setup()

from django.db import transaction
from outbox import emit
from outbox.relay.passes import relay_pass
from outbox.worker.delivery import deliver
from plain.events import Placed

with transaction.atomic():
    emit(Placed(order_id="1"))
messages = []
relay_pass(publish=messages.append)
for message in messages:
    deliver(handler_name=message.handler, pairs=message.pairs, worker="w1")
"""

EMIT = """
import django

django.setup()

from django.db import transaction
from outbox import emit
from plain.events import Placed

with transaction.atomic():
    emit(Placed(order_id="7"))
"""

VISIT = """
import django

django.setup()

from django.contrib import admin
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

client = Client()
client.force_login(User.objects.create_superuser("ann"))
pages = ["admin:index", "admin:outbox_minute_periodic"]
pages += [f"admin:outbox_{model._meta.model_name}_changelist" for model in admin.site._registry
          if model._meta.app_label == "outbox"]
for page in pages:
    answer = client.get(reverse(page))
    print(page, answer.status_code)
"""


class Project:
    """A project in a folder, whose settings refuse to import Celery."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "plain").mkdir()
        for name, text in {
            "plain_settings.py": SETTINGS,
            "plain_urls.py": URLS,
            "plain/__init__.py": "",
            "plain/events.py": EVENTS,
            "plain/handlers.py": HANDLERS,
        }.items():
            (folder / name).write_text(text)

    @property
    def environment(self) -> dict[str, str]:
        return {"DJANGO_SETTINGS_MODULE": "plain_settings", "PYTHONPATH": f"{ROOT}:."}

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )

    def manage(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.run("-m", "django", *arguments)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    made = Project(tmp_path_factory.mktemp("plain"))
    done = made.manage("migrate", "--verbosity", "0")
    assert (done.stderr, done.returncode) == ("", 0)
    return made


@pytest.mark.processes
@pytest.mark.once
class TestAProjectWithoutCelery:
    def test_stores_and_delivers_events(self, project: Project):
        """Failed: the guards, emit() and the breaker imported Celery."""
        done = project.run("-c", DELIVER)

        assert (done.stdout, done.returncode) == ("counted 1\n", 0), done.stderr

    def test_passes_its_checks(self, project: Project):
        done = project.manage("check", "--deploy", "--tag", "outbox", "--fail-level", "WARNING")

        assert done.returncode == 0, done.stderr
        assert "outbox" not in done.stderr

    def test_shows_every_page_of_the_admin(self, project: Project):
        done = project.run("-c", VISIT)

        pages = [line.split() for line in done.stdout.splitlines()]
        assert len(pages) > 5, done.stderr
        assert {status for _page, status in pages} == {"200"}

    def test_is_examined_by_the_doctor(self, project: Project):
        done = project.manage("outbox", "doctor", "--json")

        found = json.loads(done.stdout)
        assert not [one for one in found if "could not be examined" in one["text"]]
        assert not [one for one in found if one["part"] in ("broker", "queues", "settings", "beat")]
        errors = {one["part"]: one["advice"] for one in found if one["severity"] == "error"}
        assert errors.keys() == {"relay"}, "No process was started, and no delivery waits."
        assert errors["relay"].startswith("Start manage.py outbox work.")

    def test_relays_and_delivers_in_one_process(self, project: Project):
        """Seen to fail with an import of `outbox.tasks`."""
        working = Running(
            [sys.executable, "-m", "django", "outbox", "work", "--loglevel", "INFO"],
            environment={**project.environment, "PYTHONUNBUFFERED": "1"},
            folder=project.folder,
        )
        try:
            working.says("Working: all queues, 1 process with 1 thread")
            done = project.run("-c", EMIT)
            assert done.returncode == 0, done.stderr
            working.says("counted 7")
            working.says(r"INFO plain.handlers: logged 7")
            working.send(signal.SIGTERM)
            assert working.ends() == 0, working.output
        finally:
            working.end_for_sure()

        assert "Working has stopped." in working.output
        assert "Traceback" not in working.output

    @pytest.mark.parametrize("arguments", [("--once",), ()], ids=["once", "loop"])
    def test_has_no_relay_for_celery(self, project: Project, arguments: tuple[str, ...]):
        done = project.manage("outbox", "relay", *arguments)

        assert done.returncode == 1
        expected = 'CommandError: The subcommand relay needs celery (extra "celery").\n'
        assert done.stderr == expected
