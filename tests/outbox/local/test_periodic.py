"""Periodic jobs without beat: once per interval, in one of all processes."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest
from django.db import connections

from outbox.local import periodic
from outbox.local.periodic import PeriodicJobs, claim
from outbox.models import Heartbeat
from tests.processes import eventually

HOUR = timedelta(hours=1)


def claims(number: int, *, every: timedelta) -> list[bool]:
    """Claim a job in several threads at the same time."""
    found: list[bool] = []
    begin = threading.Barrier(number)

    def run() -> None:
        begin.wait(60)
        try:
            found.append(claim("a.job", every=every, using="default"))
        finally:
            connections.close_all()

    threads = [threading.Thread(target=run) for _ in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return found


@pytest.mark.django_db(transaction=True)
class TestAPeriodicJob:
    def test_runs_in_one_of_all_processes(self):
        """Seen to fail without the condition on its last run."""
        assert sorted(claims(4, every=HOUR)) == [False, False, False, True]

    def test_runs_again_after_its_interval(self):
        assert claim("a.job", every=HOUR, using="default")
        assert not claim("a.job", every=HOUR, using="default")

        rows = Heartbeat.objects.filter(name="a.job")
        rows.update(seen_at=rows.get().seen_at - HOUR)

        assert claim("a.job", every=HOUR, using="default")

    def test_that_fails_ends_neither_its_process_nor_other_jobs(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ):
        ran = threading.Event()

        def fail() -> None:
            raise ValueError("of a test")

        monkeypatch.setattr(periodic, "_LOOK_SECONDS", 0.01)
        monkeypatch.setattr(periodic, "JOBS", {"bad": (HOUR, fail), "good": (HOUR, ran.set)})
        stopping = threading.Event()
        thread = threading.Thread(target=PeriodicJobs(stopping, using="default").run)
        thread.start()

        eventually(ran.is_set, "the other job runs")
        stopping.set()
        thread.join(60)

        assert "The periodic job bad failed" in caplog.text

    def test_runs_after_the_clock_has_gone_back(self):
        """Seen not to run until the clock had caught up."""
        assert claim("a.job", every=HOUR, using="default")
        rows = Heartbeat.objects.filter(name="a.job")
        rows.update(seen_at=rows.get().seen_at + timedelta(days=1))

        assert claim("a.job", every=HOUR, using="default")
        assert not claim("a.job", every=HOUR, using="default")
