"""Processes of `outbox work` deliver beside a Celery worker, and one of them is killed."""

from __future__ import annotations

import os
import signal
import sys

import pytest

from tests.chaos.stack import Stack
from tests.chaos.test_fire import QUEUES, assert_each_once, settle, strike

pytestmark = [pytest.mark.processes, pytest.mark.broker, pytest.mark.timeout(600)]

WORKERS = "SELECT DISTINCT worker FROM outbox_delivery WHERE worker LIKE ?"
LOCAL = [sys.executable, "manage.py", "outbox", "work", "--threads", "2"]
BOTH = {"GROUND_HAS_BOTH": "yes"}


class TestBothTransports:
    def test_run_each_delivery_once_although_one_process_is_killed(self, ground: Stack):
        """Whoever claims a delivery runs it."""
        ground.start_relay("relay beside", **BOTH)
        ground.start_worker("celery beside", queues=QUEUES, GROUND_HAS_BOTH="yes")
        for name in ("doomed", "local"):
            ground.start(name, LOCAL, **BOTH)
            ground.wait_until(lambda name=name: "Working: " in ground.log(name), "it works")

        strike(ground, 150)
        os.kill(ground.pid("doomed"), signal.SIGKILL)
        strike(ground, 150)
        settle(ground)

        assert_each_once(ground, 300)
        assert ground.query(WORKERS, "work@%")
        assert len(ground.query(WORKERS, "%")) > len(ground.query(WORKERS, "work@%"))
