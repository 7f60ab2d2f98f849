"""A database server that hangs: its host is paused, or its disk does not answer.

No connection is refused and none breaks, so nobody notices an outage. The processes of a real
server are stopped for longer than a lease; one worker and one relay survive that.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import psutil
import psycopg
import pytest
from django.contrib.auth.models import Group
from django.db import Error, connections

from outbox import Receipt, subscribe
from outbox.deliveries.sync import sync_subscriptions
from outbox.testing import Outbox
from tests.databases import own_postgresql
from tests.outbox.drive import outcomes, run_message, run_pass, states_and_attempts
from tests.threads import in_thread

ROOT = Path(__file__).resolve().parents[3]

pytestmark = [
    pytest.mark.postgresql,
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("own_registry", "no_nudge", "short_waits"),
]


class Server:
    """A server that can be paused."""

    def __init__(self, url: str) -> None:
        with psycopg.connect(url, autocommit=True) as one:
            backend = psutil.Process(one.info.backend_pid)
            parent = backend.parent()
            assert parent is not None
            self._postmaster = parent

    def freeze(self, seconds: float) -> None:
        """Pause all its processes for this time, in another thread."""
        stopped = [self._postmaster, *self._postmaster.children(recursive=True)]
        for one in stopped:
            one.send_signal(signal.SIGSTOP)

        def thaw() -> None:
            time.sleep(seconds)
            for one in stopped:
                one.send_signal(signal.SIGCONT)

        threading.Thread(target=thaw).start()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A separate server that this process uses instead of that of the suite."""
    with own_postgresql() as own:
        url = own.start()
        environment = {**os.environ, "DATABASE_URL": url}
        migrate = [sys.executable, "manage.py", "migrate", "-v0"]
        subprocess.run(migrate, cwd=ROOT, env=environment, check=True)
        at = urlsplit(url)
        settings = {
            **connections["default"].settings_dict,
            "HOST": at.hostname,
            "PORT": at.port,
            "NAME": at.path[1:],
            "USER": at.username,
            "PASSWORD": at.password,
        }
        connections["default"].close()
        monkeypatch.setitem(connections.settings, "default", settings)
        monkeypatch.setattr(connections["default"], "settings_dict", settings)
        with connections["default"].cursor() as cursor:
            cursor.execute("TRUNCATE outbox_event, outbox_subscription RESTART IDENTITY CASCADE")
        yield Server(url)
        connections["default"].close()


class TestAServerThatStandsStill:
    def test_uses_up_no_attempt_of_an_atomic_handler(self, server: Server):
        frozen: list[bool] = []

        @subscribe("tests.Counted", attempts=1, lease=3.0)
        def count() -> None:
            _use_it(server, frozen)

        _deliver_beside_a_relay()

        assert states_and_attempts() in ([("pending", 0)], [("done", 1)])
        assert not {"died", "failed"} & set(outcomes())

    def test_uses_up_no_attempt_of_a_handler_with_a_receipt(self, server: Server):
        frozen: list[bool] = []

        @subscribe("tests.Counted", attempts=1, lease=3.0, atomic=False)
        def count(receipt: Receipt) -> None:
            _use_it(server, frozen)
            with receipt:
                pass

        _deliver_beside_a_relay()

        assert states_and_attempts() in ([("pending", 0)], [("done", 1)])
        assert not {"died", "failed"} & set(outcomes())


def _use_it(server: Server, frozen: list[bool]) -> None:
    if not frozen:
        frozen.append(True)
        server.freeze(4.0)
    Group.objects.create(name=uuid4().hex)


def _deliver_beside_a_relay() -> None:
    sync_subscriptions()
    Outbox().given("tests.Counted", order_id=uuid4())
    [message] = run_pass()
    stopping = threading.Event()

    def relay() -> None:
        while not stopping.wait(0.1):
            try:
                run_pass()
            except Error:
                connections["default"].close()

    relaying = in_thread(relay)
    run_message(message)
    stopping.set()
    relaying()
