"""The thread that checks and sends: a channel that hangs delays nothing else."""

from __future__ import annotations

import threading
import time

import pytest
from django.core.management import call_command
from django.utils import timezone
from pytest_django import Settings

from outbox.alerts import problems
from outbox.alerts import watch as watching
from outbox.alerts.findings import Findings
from outbox.alerts.watch import Watch, watch
from outbox.models import Alert, AlertNotice
from outbox.transports import celery_broker
from tests.outbox.alerts.world import Kind, alerts, beat, check, problem
from tests.outbox.sinks.receiver import Receiver
from tests.processes import eventually
from tests.servers.smtp import MailServer
from tests.threads import PATIENCE

pytestmark = pytest.mark.django_db(transaction=True)

BOTH = {"mail": {"EMAIL": ["a@example.com"]}}


class TestAMailServerThatHangs:
    def test_delays_neither_other_channels_nor_pings_nor_checks(
        self, mails: MailServer, hook: Receiver
    ):
        mails.hangs, chat = True, {"WEBHOOK": hook.url}
        config = alerts(
            CHANNELS={"mail": {**BOTH["mail"], "TIMEOUT_SECONDS": 120}, "chat": chat},
            DEAD_MAN={"URL": hook.url},
            LIMITS={"silent": None},
        )
        check(config, problem())
        beat(Kind.RELAY, Kind.BEAT)
        one = Watch(config)

        one.look()

        eventually(lambda: mails.connected, "the mail server is asked")
        eventually(lambda: len(hook.requests) == 2, "webhook and ping are sent")
        one.look()  # it returns, and starts no second thread for the mail
        assert mails.connected == 1
        assert AlertNotice.objects.get(channel="mail").failures == 0  # it still waits
        mails.released.set()
        one.wait()

    def test_gets_the_message_after_it_answers_again(self, mails: MailServer):
        mails.hangs = True
        config = alerts(CHANNELS=BOTH)
        check(config, problem())
        one = Watch(config)
        one.look()
        eventually(lambda: mails.connected, "the mail server is asked")

        mails.hangs = False
        mails.released.set()
        one.wait()

        assert len(mails.taken) == 1


class TestTheThread:
    def test_finds_a_problem_and_sends_it(self, hook: Receiver, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(watching, "LOOK_SECONDS", 0.01)
        monkeypatch.setattr(watching, "CHECK_SECONDS", 0.01)
        one = Watch(alerts(CHANNELS={"chat": {"WEBHOOK": hook.url}}, LIMITS={"silent": 0}))
        one.start()

        eventually(lambda: hook.requests, "a silent part is reported")
        one.stop()
        one.wait()

        assert Alert.objects.filter(problem="silent:relay:").count() == 1

    def test_is_waited_for_with_the_check_that_it_runs(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(watching, "LOOK_SECONDS", 0.01)
        begun, ended = threading.Event(), threading.Event()

        def slow(_: dict[str, float], *, using: str) -> Findings:
            begun.set()
            time.sleep(0.2)
            ended.set()
            return Findings(at=timezone.now(), problems={})

        monkeypatch.setattr(problems, "find", slow)
        one = Watch(alerts(CHANNELS=BOTH))
        one.start()
        assert begun.wait(PATIENCE)

        one.stop()
        one.wait()

        assert ended.is_set()

    def test_goes_on_after_an_error(
        self, hook: Receiver, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ):
        def fail(*_: object, **__: object) -> None:
            raise ValueError("of a test")

        config = alerts(CHANNELS={"chat": {"WEBHOOK": hook.url}})
        check(config, problem())
        monkeypatch.setattr(problems, "find", fail)
        one = Watch(config)

        one.look()
        one.wait()

        assert "The step check of the alerts failed" in caplog.text
        assert len(hook.requests) == 1

    def test_checks_in_one_of_all_processes(self, monkeypatch: pytest.MonkeyPatch):
        checks: list[str] = []
        find = problems.find

        def counted(limits: dict[str, float], *, using: str) -> Findings:
            checks.append(using)
            return find(limits, using=using)

        monkeypatch.setattr(problems, "find", counted)
        for one in [Watch(alerts()) for _ in range(3)]:
            one.look()
            one.wait()

        assert len(checks) == 1

    def test_begins_no_second_check_while_one_lasts_longer_than_the_interval(
        self, monkeypatch: pytest.MonkeyPatch
    ):
        """Seen to fail with a claim as long as the interval."""
        checks: list[str] = []
        monkeypatch.setattr(watching, "CHECK_SECONDS", 0.01)

        def slow(limits: dict[str, float], *, using: str) -> Findings:
            checks.append(using)
            if len(checks) == 1:
                time.sleep(0.05)
                Watch(alerts()).look()
            return Findings(at=timezone.now(), problems={})

        monkeypatch.setattr(problems, "find", slow)

        Watch(alerts()).look()
        assert len(checks) == 1

        time.sleep(0.05)
        Watch(alerts()).look()
        assert len(checks) == 2

    def test_ends_with_the_relay_of_the_command(
        self, settings: Settings, monkeypatch: pytest.MonkeyPatch
    ):
        """Seen to fail: the command left it running while the relay stopped."""
        settings.OUTBOX = {"ALERTS": {"CHANNELS": BOTH}}
        running: list[str] = []

        def stop_at_once(*_: object) -> None:
            running.extend(one.name for one in threading.enumerate())

        monkeypatch.setattr(celery_broker, "forward_nudges", stop_at_once)
        call_command("outbox", "relay")

        assert "outbox-alerts" in running
        eventually(
            lambda: "outbox-alerts" not in [one.name for one in threading.enumerate()],
            "the end of the thread",
        )

    def test_is_not_built_without_alerts(self, settings: Settings):
        settings.OUTBOX = {}

        assert watch() is None

    def test_is_not_built_with_invalid_settings_and_the_process_goes_on(
        self, settings: Settings, caplog: pytest.LogCaptureFixture
    ):
        settings.OUTBOX = {"ALERTS": {"CHANNELS": {"mail": {}}}}

        assert watch() is None
        assert "No alert is sent." in caplog.text
