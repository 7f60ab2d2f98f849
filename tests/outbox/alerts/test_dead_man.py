"""The dead man's ping: it stops when relay or beat stops, or when the database cannot be read."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
import time_machine
from django.db import connection
from django.utils import timezone
from pytest_django import Settings

from outbox.alerts.watch import Watch
from outbox.models import Heartbeat
from tests.outbox.alerts.world import Kind, alerts, beat
from tests.outbox.sinks.receiver import Receiver, answers

pytestmark = pytest.mark.django_db(transaction=True)


def look(url: str, **values: Any) -> None:
    """Let one process look, and wait for its ping."""
    config = alerts(CHANNELS={}, DEAD_MAN={"URL": url, **values})
    watch = Watch(config)
    watch.look()
    watch.wait()


class TestThePing:
    @pytest.mark.parametrize("method", ["GET", "POST"])
    def test_is_sent_while_relay_and_beat_run(self, hook: Receiver, method: str):
        beat(Kind.RELAY, Kind.BEAT)

        look(hook.url, METHOD=method)

        assert len(hook.requests) == 1

    @pytest.mark.parametrize("silent", [Kind.RELAY, Kind.BEAT])
    def test_stops_when_one_of_them_stops(
        self, hook: Receiver, silent: str, caplog: pytest.LogCaptureFixture
    ):
        beat(Kind.RELAY, Kind.BEAT)
        beat(silent, ago=31)

        look(hook.url)

        assert hook.requests == []
        assert f"The dead man's ping is not sent: silent: {silent}." in caplog.text

    def test_is_not_sent_before_both_were_seen(self, hook: Receiver):
        beat(Kind.RELAY)

        look(hook.url)

        assert hook.requests == []

    def test_stops_while_a_worker_still_sends_heartbeats(self, hook: Receiver):
        beat(Kind.WORKER, Kind.BROKER)

        look(hook.url)

        assert hook.requests == []

    def test_stops_while_only_a_periodic_job_was_run(self, hook: Receiver):
        """Processes of `outbox work` note their periodic jobs as heartbeats of the same kind."""
        beat(Kind.RELAY, Kind.BEAT)
        Heartbeat.objects.filter(kind=Kind.BEAT).update(name="outbox.prune")

        look(hook.url)

        assert hook.requests == []

    def test_needs_no_beat_where_no_broker_is_used(self, hook: Receiver, settings: Settings):
        settings.OUTBOX = {"TRANSPORTS": ["local"]}
        beat(Kind.RELAY)

        look(hook.url)

        assert len(hook.requests) == 1

    def test_is_sent_once_per_interval_over_all_processes(self, hook: Receiver):
        with time_machine.travel(timezone.now(), tick=False) as clock:
            for _ in range(4):
                beat(Kind.RELAY, Kind.BEAT)
                look(hook.url, SECONDS=60)
                clock.shift(timedelta(seconds=20))

        assert len(hook.requests) == 2

    def test_is_repeated_soon_after_a_failure(self, hook: Receiver):
        hook.behaviour = answers(500)
        with time_machine.travel(timezone.now(), tick=False) as clock:
            beat(Kind.RELAY, Kind.BEAT)
            look(hook.url, SECONDS=300)
            hook.behaviour = answers(200)
            clock.shift(timedelta(seconds=10))

            look(hook.url, SECONDS=300)

        assert len(hook.requests) == 2

    def test_stops_while_the_database_cannot_be_read(
        self, hook: Receiver, caplog: pytest.LogCaptureFixture
    ):
        beat(Kind.RELAY, Kind.BEAT)

        with connection.execute_wrapper(_fail):
            look(hook.url)

        assert hook.requests == []
        assert "The step dead man of the alerts failed. It is repeated." in caplog.text


def _fail(*_: object) -> None:
    raise ConnectionError("of a test")
