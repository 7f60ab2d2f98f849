"""The page about other projects, followed word for word in a project of `startproject`.

The project has an environment of its own, with the built wheel of the outbox. DJANGO_OF_PROJECTS
names another release of Django; `nox -s projects` runs these tests with each that is supported.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent

import pytest

from tests.docs.environments import Environment
from tests.docs.pages import Page
from tests.docs.projects import BROKER, FILE, Project, blocks
from tests.package.built import Distribution
from tests.processes import eventually
from tests.servers.brokers import ValkeyServer

PAGE = Page("docs/how-to/use-outbox-in-your-project.md")
#: Both ends are tested without the variable: the pinned release, and the highest.
PINNED, HIGHEST = "", "" if sys.version_info < (3, 12) else "6.1"
GIVEN = os.environ.get("DJANGO_OF_PROJECTS")

pytestmark = [pytest.mark.processes, pytest.mark.once, pytest.mark.timeout(600)]

Begin = Callable[..., Project]


@dataclass(frozen=True)
class Way:
    """One way to run the outbox in a project, as the page describes it.

    Attributes:
        name: the name in the page's table of lines and seconds.
        worker: the command of the page that runs the handlers.
        steps: the part of the page to follow.
        recommended: a recommendation of the doctor for this way.
    """

    name: str
    worker: str
    steps: str
    recommended: str


CELERY = Way(
    "Celery and Valkey",
    worker="celery -A yourproject worker --loglevel INFO",
    steps=PAGE.text,
    recommended="worker_prefetch_multiplier is 4",
)
WAYS = [CELERY]


@pytest.fixture
def begin(tmp_path: Path, distribution: Distribution, valkey: ValkeyServer) -> Iterator[Begin]:
    """Return a function that makes an empty folder, and an environment without any package."""
    begun: list[Project] = []

    def make(django: str) -> Project:
        environment = Environment(tmp_path, wheels=distribution.wheel.parent, django=django)
        (tmp_path / "project").mkdir()
        begun.append(Project(tmp_path / "project", environment, {BROKER: valkey.url}))
        return begun[-1]

    yield make
    for project in begun:
        project.close()


@pytest.fixture
def project(begin: Begin) -> Project:
    """Return the project of a test that needs no certain release of Django."""
    return begin(PINNED if GIVEN is None else GIVEN)


#: It opens all pages of the outbox in the admin that the others link to.
OPEN_ADMIN = """
import re
from django.contrib.auth.models import User
from django.test import Client

client = Client(SERVER_NAME="localhost")
client.force_login(User.objects.create_superuser("admin"))
waiting, opened = ["/admin/outbox/"], {}
while waiting:
    page = waiting.pop()
    answer = client.get(page)
    opened[page] = answer.status_code
    links = re.findall(r'href="(/admin/outbox/[a-z_/-]*)"', answer.content.decode())
    waiting += {*links} - {*opened, *waiting}
print(len(opened), {*opened.values()})
"""


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.name)
class TestThePage:
    def test_leads_to_a_handled_event(self, begin: Begin, way: Way):
        django = HIGHEST if GIVEN is None else GIVEN
        project = begin(django)
        project.follow(way.steps)

        assert "Nothing is missing." in project.outputs["python manage.py outbox init"]
        assert "Ran 1 test" in project.outputs["python manage.py test parcels"]
        project.running[way.worker].says(r"parcel \S+ was created")
        eventually(lambda: project.owes_nothing("parcels.log_parcel"), "a finished delivery")
        doctor = project.outputs["python manage.py outbox doctor"]
        assert "ERROR" not in doctor
        assert way.recommended in doctor
        opened = project.evaluate(OPEN_ADMIN).splitlines()[-1]
        assert re.fullmatch(r"\d\d+ \{200\}", opened), opened
        print(f"{way.name}: {project.seconds:.0f} seconds, Django {django or 'as pinned'}")

    def test_counts_its_lines(self, way: Way):
        counted = sum(
            len([line for line in FILE.sub("", text).splitlines() if line.strip()])
            for _kind, text in blocks(way.steps)
        )
        [row] = [row for row in PAGE.table("How long it takes") if row[0] == way.name]

        assert row[1] == str(counted)


class TestTheCommandInit:
    def test_prints_what_the_page_shows(self, project: Project):
        """In a new project the command prints each block that the page shows, in its order."""
        files = [text for kind, text in blocks(PAGE.text) if kind == "python"]
        begin_with_the_app(project)

        printed = project.run("python manage.py outbox init")

        stripped = "\n".join(line.strip() for line in printed.splitlines())
        for text in files[1:4]:
            code = FILE.sub("", text)
            assert "\n".join(line.strip() for line in code.splitlines()) in stripped
        assert 'CELERY_BROKER_URL = "redis://localhost:6379/0"' in printed
        assert "python manage.py migrate" in printed
        assert "6 parts are missing." in printed

    def test_prints_what_can_be_pasted(self, project: Project):
        begin_with_the_app(project)

        for place, text in pasted(project.run("python manage.py outbox init")):
            if place == "shell":
                project.enter(text)
            else:
                name = place.removesuffix(", at its end")
                separate = ", at its end" if name != place else ""
                project.paste(f"# {name}{separate}\n{text}\n")

        assert "Nothing is missing." in project.run("python manage.py outbox init")
        project.run("python manage.py check --fail-level WARNING")


def begin_with_the_app(project: Project) -> None:
    """Do the first two steps of the page, and add only the app."""
    for kind, text in blocks(PAGE.text):
        if kind == "python":
            break
        project.enter(text)
    with (project.folder / "yourproject/settings.py").open("a") as settings:
        settings.write('INSTALLED_APPS = ["outbox", *INSTALLED_APPS]\n')


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
        project.follow(PAGE.section("Install it"))
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
