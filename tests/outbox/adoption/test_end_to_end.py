"""A project with `on_commit(task.delay)` is adopted, and real workers of Celery run its tasks."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

import pytest

from tests.processes import Running
from tests.servers.brokers import ValkeyServer

ROOT = Path(__file__).resolve().parents[3]

FILES = {
    "depot/__init__.py": "from .celery import app as celery_app\n",
    "depot/celery.py": """\
        from celery import Celery

        from outbox.celery import install

        app = Celery("depot")
        app.config_from_object("django.conf:settings", namespace="CELERY")
        app.autodiscover_tasks()
        install(app)
        """,
    "depot/settings.py": """\
        import os

        SECRET_KEY = "of a test"
        DEBUG = USE_TZ = True
        INSTALLED_APPS = ["outbox", "parcels"]
        DATABASES = {"default": {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": "db.sqlite3",
            "OPTIONS": {
                "transaction_mode": "IMMEDIATE",
                "timeout": 30,
                "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;",
            },
        }}
        CELERY_BROKER_URL = os.environ["BROKER"]
        CELERY_TASK_DEFAULT_QUEUE = "depot"
        LOGGING = {"version": 1, "disable_existing_loggers": False}
        OUTBOX = {"GUARD_TASKS": True}
        """,
    "parcels/__init__.py": "",
    "parcels/events.py": """\
        from outbox import DomainEvent


        class LabelPrinted(DomainEvent, key="parcel_id"):
            parcel_id: int
        """,
    "parcels/tasks.py": """\
        from celery import shared_task
        from django.db import transaction

        from outbox import emit

        from .events import LabelPrinted


        @shared_task
        def send_label(parcel_id: int, copies: int = 1) -> None:
            with transaction.atomic():
                emit(LabelPrinted(parcel_id=parcel_id))
            print(f"parcel {parcel_id} has {copies} labels", flush=True)
        """,
    "parcels/services.py": """\
        from functools import partial

        from django.db import transaction

        from .tasks import send_label


        def pack(parcel_id: int, *, fails: bool = False) -> None:
            with transaction.atomic():
                transaction.on_commit(lambda: send_label.delay(parcel_id))
                transaction.on_commit(partial(send_label.delay, parcel_id, copies=2))
                if fails:
                    raise ValueError("the parcel is lost")
        """,
}

PACK = """\
import contextlib, django; django.setup()
from parcels.services import pack
from outbox import acting_as
with acting_as("job:packing"):
    with contextlib.suppress(ValueError):
        pack(1, fails=True)
    pack(2)
"""

REPORT = """\
import django, json; django.setup()
from outbox.models import Event
rows = Event.objects.order_by("seq").values_list(
    "name", "key", "id", "causation_id", "correlation_id", "actor")
print(json.dumps([[str(one) for one in row] for row in rows]))
"""


class Depot:
    """The project in a folder."""

    def __init__(self, folder: Path, broker: str) -> None:
        self.folder = folder
        self.environment = {
            "DJANGO_SETTINGS_MODULE": "depot.settings",
            "BROKER": broker,
            "PYTHONPATH": f"{folder}:{ROOT}",
            "PATH": os.environ["PATH"],
        }
        for name, text in FILES.items():
            path = folder / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(dedent(text))

    def run(self, *arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def manage(self, *arguments: str) -> str:
        return self.run("-m", "django", *arguments)

    def worker(self) -> Running:
        words = "-A depot worker --concurrency 2 --loglevel INFO"
        command = [sys.executable, "-m", "celery", *words.split()]
        environment = {**dict.fromkeys(os.environ), **self.environment}
        return Running(command, folder=self.folder, environment=environment)


@pytest.fixture(params=["task", "event"])
def depot(
    request: pytest.FixtureRequest, tmp_path: Path, valkey: ValkeyServer
) -> Iterator[tuple[Depot, Running]]:
    database = 1 if request.param == "task" else 2
    made = Depot(tmp_path, f"{valkey.url.removesuffix('0')}{database}")
    made.manage("outbox", "adopt", "parcels", "--to", request.param, "--write")
    made.manage("outbox", "catalogue")
    made.manage("migrate", "--verbosity", "0")
    worker = made.worker()
    try:
        worker.says("ready")
        yield made, worker
    finally:
        worker.end_for_sure()


@pytest.mark.processes
@pytest.mark.servers
@pytest.mark.once
class TestAnAdoptedProject:
    def test_runs_its_tasks_after_the_commit(self, depot: tuple[Depot, Running]):
        project, worker = depot
        project.manage("check", "--fail-level", "WARNING")

        project.run("-c", PACK)

        for copies in (1, 2):
            worker.says(f"parcel 2 has {copies} labels")
        worker.send(signal.SIGTERM)
        worker.ends()
        assert "parcel 1 " not in worker.output
        rows = json.loads(project.run("-c", REPORT))
        called = {row[2] for row in rows if row[0] != "parcels.LabelPrinted"}
        printed = [row for row in rows if row[0] == "parcels.LabelPrinted"]
        assert len(printed) == 2
        assert {row[3] for row in printed} == called, "Each follows from its call."
        assert {row[5] for row in rows} == {"job:packing"}
        assert len({row[4] for row in rows}) == 1, "They have one correlation id."
