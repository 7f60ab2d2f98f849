"""The page about other projects, followed word for word in a project of `startproject`."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

import pytest

from tests.docs.pages import ROOT, Page
from tests.processes import Running
from tests.servers import fixtures
from tests.servers.brokers import ValkeyServer

PAGE = Page("docs/how-to/use-outbox-in-your-project.md")
BROKER = "redis://localhost:6379/0"

_BLOCK = re.compile(r"^```(python|console)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_FILE = re.compile(r"\A# (\S+\.py)(, at its end)?\n")

pytestmark = [pytest.mark.processes, pytest.mark.once, pytest.mark.timeout(600)]


valkey = fixtures.valkey


class Project:
    """A folder with a copy of the outbox and what the page creates there."""

    def __init__(self, folder: Path, broker: str) -> None:
        self.folder = folder
        self.broker = broker
        self.running: list[Running] = []
        self.outputs: dict[str, str] = {}
        ours = {"DJANGO_SETTINGS_MODULE", "DATABASE_URL", "REDIS_URL", "SHOP_LOCAL_DIR"}
        self.environment: dict[str, str] = {
            **{name: value for name, value in os.environ.items() if name not in ours},
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONDONTWRITEBYTECODE": "1",
        }

    def follow(self, kind: str, text: str) -> None:
        """Paste a Python file, or enter a command."""
        if kind == "python":
            self.paste(text)
        else:
            self.enter(text)

    def paste(self, text: str) -> None:
        match = _FILE.match(text)
        assert match, f"No file is named: {text}"
        path, code = self.folder / match[1], text[match.end() :].replace(BROKER, self.broker)
        path.write_text(path.read_text() + code if match[2] else code)

    def enter(self, command: str) -> None:
        if command.startswith("pip install "):
            return  # the environment of the tests has them
        if command.startswith("celery "):
            self.start(command).says("ready|beat: Starting")
            return
        self.outputs[command] = self.run(command)
        if "create_parcel()" in command:
            self.running[0].says(r"parcel \S+ was created")

    def start(self, command: str) -> Running:
        started = Running(
            ["/bin/sh", "-c", f"exec {command}"],
            folder=self.folder,
            environment={**dict.fromkeys(os.environ), **self.environment},
        )
        self.running.append(started)
        return started

    def run(self, command: str, *, status: int = 0) -> str:
        done = subprocess.run(
            ["/bin/sh", "-c", command],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == status, f"{command}\n{done.stdout}"
        return done.stdout

    def stop(self) -> None:
        for one in self.running:
            one.end_for_sure()
        self.running.clear()


@pytest.fixture
def project(tmp_path: Path, valkey: ValkeyServer) -> Iterator[Project]:
    made = Project(tmp_path, valkey.url)
    without = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "outbox", tmp_path / "outbox", ignore=without)
    try:
        yield made
    finally:
        made.stop()


def blocks() -> Iterator[tuple[str, str]]:
    """Yield each Python file, and each line that is entered, in the order of the page."""
    for kind, text in _BLOCK.findall(PAGE.text):
        if kind == "python":
            yield kind, text
            continue
        for line in text.splitlines():
            assert line.startswith("$ "), line
            yield kind, line.removeprefix("$ ")


class TestThePage:
    def test_leads_to_a_handled_event(self, project: Project):
        for kind, text in blocks():
            project.follow(kind, text)

        assert "Nothing is missing." in project.outputs["python manage.py outbox init"]
        assert "Ran 1 test" in project.outputs["python manage.py test parcels"]
        [status] = re.findall(
            r"^parcels\.log_parcel .*$", project.outputs["python manage.py outbox status"], re.M
        )
        assert status.split()[1:7] == ["0"] * 6
        doctor = project.outputs["python manage.py outbox doctor"]
        assert "ERROR" not in doctor
        assert "worker_prefetch_multiplier is 4" in doctor
        assert "check" not in project.outputs, "The checks run before each command."

    def test_shows_what_the_command_init_prints(self, project: Project):
        """In a new project the command prints each block that the page shows, in its order."""
        files = [text for kind, text in blocks() if kind == "python"]
        project.enter("django-admin startproject yourproject .")
        with (project.folder / "yourproject/settings.py").open("a") as settings:
            settings.write('INSTALLED_APPS = ["outbox", *INSTALLED_APPS]\n')

        printed = project.run("python manage.py outbox init")

        stripped = "\n".join(line.strip() for line in printed.splitlines())
        for text in files[1:4]:
            code = _FILE.sub("", text)
            assert "\n".join(line.strip() for line in code.splitlines()) in stripped
        assert 'CELERY_BROKER_URL = "redis://localhost:6379/0"' in printed
        assert "python manage.py migrate" in printed
        assert "6 parts are missing." in printed

    def test_pastes_what_the_command_init_prints(self, project: Project):
        project.enter("django-admin startproject yourproject .")
        with (project.folder / "yourproject/settings.py").open("a") as settings:
            settings.write('INSTALLED_APPS = ["outbox", *INSTALLED_APPS]\n')

        for place, text in pasted(project.run("python manage.py outbox init")):
            if place == "shell":
                project.enter(text)
            else:
                name = place.removesuffix(", at its end")
                separate = ", at its end" if name != place else ""
                project.paste(f"# {name}{separate}\n{text}\n")

        assert "Nothing is missing." in project.run("python manage.py outbox init")
        project.run("python manage.py check --fail-level WARNING")


def pasted(printed: str) -> Iterator[tuple[str, str]]:
    """Yield place and text of each step that `outbox init` printed."""
    for step in re.split(r"^\d+\. ", printed, flags=re.MULTILINE)[1:]:
        _reason, place, *lines = re.split(r"\n\n", step, maxsplit=2)
        text = "\n\n".join(lines)
        code = [line for line in text.splitlines() if not line or line.startswith("       ")]
        yield place.strip().removesuffix(":"), dedent("\n".join(code)).strip()


LEGACY_SETTINGS = """
INSTALLED_APPS += ["legacy"]
ROOT_URLCONF = "legacy.urls"
ALLOWED_HOSTS = ["testserver"]
DATABASES["default"]["ATOMIC_REQUESTS"] = True
CELERY_RESULT_BACKEND = CELERY_BROKER_URL
CELERY_TASK_ROUTES = {"*": {"queue": "reports"}}
CELERY_TASK_ACKS_LATE = False
CELERY_TASK_SOFT_TIME_LIMIT = 1
CELERY_TASK_TRACK_STARTED = True
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
"""

LEGACY_TASKS = """
import json
import os
import time

import redis
from celery import current_task, shared_task
from django.conf import settings
from django.db import connection


def is_acknowledged():
    # Whether Redis no longer has the message of the running task.
    unacknowledged = redis.Redis.from_url(settings.CELERY_BROKER_URL).hvals("unacked")
    return not any(current_task.request.id.encode() in message for message in unacknowledged)


@shared_task(ignore_result=False)
def add(x, y):
    return {"sum": x + y, "at": time.time(), "connection": connection.connection is not None}


@shared_task(acks_late=False)
def acknowledge_early():
    return is_acknowledged()


@shared_task
def hang():
    time.sleep(600)
"""

LEGACY_URLS = """
from django.http import JsonResponse
from django.urls import path

from .tasks import add


def send(request):
    return JsonResponse({"id": add.delay(1, 2).id})


urlpatterns = [path("send", send)]
"""

LEGACY_EVENTS = """
from outbox import DomainEvent


class ReportSent(DomainEvent, key="report_id"):
    report_id: str
"""

# It runs for longer than the time limit of the project's tasks, and looks at its own message.
LEGACY_HANDLERS = """
import time

from django.db import connection
from outbox import Receipt, subscribe

from .tasks import is_acknowledged

previous = None


@subscribe("legacy.ReportSent", queue="reports", atomic=False)
def file_report(report_id: str, receipt: Receipt) -> None:
    global previous
    kept, previous = connection.connection is previous, connection.connection
    time.sleep(2)
    print(f"filed {report_id}: acknowledged {is_acknowledged()}, kept {kept}", flush=True)
    with receipt:
        pass
"""

EMIT = """python manage.py shell -c '
from django.db import transaction
from legacy.events import ReportSent
from outbox import emit
with transaction.atomic():
    emit(ReportSent(report_id="{report}"))'"""

SEND = """
import json, time, django
django.setup()
from celery.exceptions import SoftTimeLimitExceeded
from django.db import transaction
from django.test import Client
from celery.result import AsyncResult
from legacy.events import ReportSent
from legacy.tasks import add, acknowledge_early, hang
from outbox import emit

answer = Client().get("/send")
view = AsyncResult(answer.json()["id"]).get(timeout=60)
with transaction.atomic():
    emit(ReportSent(report_id="r1"))
before = time.time()
later = add.apply_async((3, 4), countdown=1).get(timeout=60)
early = acknowledge_early.delay().get(timeout=60)
stopped = type(hang.delay().get(timeout=60, propagate=False)).__name__
print(json.dumps({
    "view": view["sum"], "later": later["sum"], "waited": later["at"] - before >= 1,
    "connections": [view["connection"], later["connection"]],
    "early": early, "stopped": stopped,
}))
"""


class TestTasksOfTheProject:
    def test_work_as_before_beside_the_outbox(self, project: Project):
        """Results, eta, early acknowledgement, routes, a short time limit, ATOMIC_REQUESTS.

        One worker process runs both. The outbox's handler exceeds the project's time limit, is
        acknowledged late, and keeps its connection to the database.
        """
        for kind, text in blocks():
            if "outbox startapp" in text:
                break
            project.follow(kind, text)
        project.paste(f"# yourproject/settings.py, at its end\n{LEGACY_SETTINGS}")
        (project.folder / "legacy").mkdir()
        for name, text in {
            "__init__": "",
            "tasks": LEGACY_TASKS,
            "urls": LEGACY_URLS,
            "events": LEGACY_EVENTS,
            "handlers": LEGACY_HANDLERS,
        }.items():
            (project.folder / f"legacy/{name}.py").write_text(text)
        project.run("python manage.py migrate")
        relay = project.start("celery -A yourproject worker -Q outbox -n relay@%h -l INFO")
        relay.says("ready")
        worker = project.start("celery -A yourproject worker -Q reports -c 1 -n reports@%h -l INFO")
        worker.says("ready")

        (project.folder / "send.py").write_text(SEND)
        sent = project.run("DJANGO_SETTINGS_MODULE=yourproject.settings python send.py")

        assert json.loads(sent.splitlines()[-1]) == {
            "view": 3,
            "later": 7,
            "waited": True,
            "connections": [False, False],
            "early": True,
            "stopped": "SoftTimeLimitExceeded",
        }
        worker.says("filed r1: acknowledged False")
        for report in ("r2", "r3"):
            project.run(EMIT.format(report=report))
            worker.says(f"filed {report}: ")
        worker.says("filed r3: acknowledged False, kept True")
        project.run("python manage.py check --fail-level WARNING")
