"""Celery tasks that a project has already work as before beside the outbox."""

from __future__ import annotations

import json

import pytest

from tests.docs import ways
from tests.docs.projects import Project
from tests.docs.ways import CELERY, PAGE

pytestmark = [
    *(pytest.mark.processes, pytest.mark.once, pytest.mark.servers),
    pytest.mark.timeout(600),
]

begin = ways.begin
project = ways.project

LEGACY_SETTINGS = """
INSTALLED_APPS += ["legacy"]
ROOT_URLCONF = "legacy.urls"
ALLOWED_HOSTS = ["testserver"]
DATABASES["default"]["ATOMIC_REQUESTS"] = True
CELERY_RESULT_BACKEND = CELERY_BROKER_URL
CELERY_TASK_ROUTES = {"*": {"queue": "reports"}}
CELERY_TASK_ACKS_LATE = False
CELERY_TASK_SOFT_TIME_LIMIT = 4
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
    # The worker acknowledges beside the task, at its start. The soft time limit ends a longer wait.
    while not is_acknowledged():
        time.sleep(0.02)
    return True


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
    time.sleep(5)
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
        project.follow(CELERY.of(PAGE.section("Install it")))
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
