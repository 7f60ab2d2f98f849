"""Events are stored and delivered if Celery and kombu are not installed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]

PROGRAM = """
import sys
sys.modules["celery"] = sys.modules["kombu"] = None  # importing them raises ImportError

import django
from django.conf import settings

settings.configure(
    SECRET_KEY="x", USE_TZ=True, DEBUG=True,
    INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth", "outbox"],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
)
django.setup()

from django.core.management import call_command
from django.db import transaction
from outbox import DomainEvent, emit, subscribe
from outbox.relay.passes import relay_pass
from outbox.worker.delivery import deliver

class Placed(DomainEvent, key="order_id"):
    order_id: str

@subscribe(Placed.event_name)
def count(order_id: str) -> None:
    print(order_id)

call_command("migrate", verbosity=0)
with transaction.atomic():
    emit(Placed(order_id="1"))
messages = []
relay_pass(publish=messages.append)
for message in messages:
    deliver(handler_name=message.handler, pairs=message.pairs, worker="w1")
"""


@pytest.mark.processes
class TestAProjectWithoutCelery:
    def test_stores_and_delivers_events(self):
        """Failed: the guards, emit() and the breaker imported Celery."""
        program = [sys.executable, "-c", PROGRAM]

        done = subprocess.run(program, cwd=ROOT, capture_output=True, text=True, check=False)

        assert (done.stdout, done.returncode) == ("1\n", 0), done.stderr
