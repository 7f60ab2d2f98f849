"""Real processes send alerts and pings: `outbox work`, and a worker of Celery."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from django.db import connection
from django.utils import timezone

from outbox.models import Heartbeat
from tests.outbox.alerts.world import Kind, beat, check, hook_config, problem
from tests.outbox.sinks.receiver import Receiver
from tests.processes import Running, eventually

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.processes]

ROOT = Path(__file__).resolve().parents[3]
SETTINGS = """
from tests.outbox.project.settings import *

DATABASES["default"]["NAME"] = {database!r}
CELERY_BROKER_URL = "memory://"
OUTBOX = {{
    "TRANSPORTS": [{transport!r}],
    "HEARTBEAT_SECONDS": 60,
    "ALERTS": {{
        "CHANNELS": {{"chat": {{"WEBHOOK": {url!r} + "/alert", "TRIGGERS": ["dead"]}}}},
        "DEAD_MAN": {{"URL": {url!r} + "/ping", "SECONDS": 10}},
    }},
}}
"""
COMMANDS = {
    "local": ["manage.py", "outbox", "work"],
    "celery": ["-m", "celery", "-A", "tests.outbox.project", "worker", "--concurrency", "1"],
}


@contextmanager
def running(transport: str, hook: Receiver, folder: Path) -> Iterator[Running]:
    """Run a process of this transport on the test's database until the end of the block."""
    name = str(connection.settings_dict["NAME"])
    text = SETTINGS.format(database=name, transport=transport, url=hook.url)
    (folder / "settings_of_a_process.py").write_text(text)
    environment = {
        "DJANGO_SETTINGS_MODULE": "settings_of_a_process",
        "PYTHONPATH": f"{folder}:{ROOT}",
    }
    process = Running([sys.executable, *COMMANDS[transport]], environment=environment, folder=ROOT)
    try:
        yield process
    finally:
        process.end_for_sure()


def paths(hook: Receiver) -> set[str]:
    return {one.path for one in hook.requests}


# Processes of each transport wait long, and share the code that reads the database.
@pytest.mark.parametrize("transport", ["local", pytest.param("celery", marks=pytest.mark.once)])
class TestAProcess:
    def test_sends_alerts_and_pings(self, transport: str, hook: Receiver, tmp_path: Path):
        check(hook_config(hook.url), problem())
        beat(Kind.BEAT)
        with running(transport, hook, tmp_path) as process:
            eventually(
                lambda: paths(hook) == {"/events/alert", "/events/ping"},
                f"an alert and a ping; {process.output}",
            )

    def test_sends_no_ping_once_the_relay_is_silent(
        self, transport: str, hook: Receiver, tmp_path: Path
    ):
        """Another process still runs: it is the database that shows the silence."""
        beat(Kind.BEAT)
        with running(transport, hook, tmp_path) as process:
            eventually(lambda: paths(hook), f"a ping; {process.output}")
            long_ago = timezone.now().replace(year=2020)
            eventually(
                lambda: (
                    Heartbeat.objects.filter(kind=Kind.RELAY).update(seen_at=long_ago)
                    and "The dead man's ping is not sent: silent: relay." in process.output
                ),
                f"no ping; {process.output}",
            )
