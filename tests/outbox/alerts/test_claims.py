"""Claims end when their process dies, and when the clock goes back."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
import time_machine
from django.db import OperationalError, connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from pytest_django import Settings

from outbox.alerts import claims, dead_man, recording, sending
from outbox.alerts.messages import AlertMessage
from outbox.alerts.sending import Sender
from outbox.alerts.watch import Watch, end_unwatched
from outbox.local.periodic import prune
from outbox.models import Alert, AlertClaim, AlertNotice, Heartbeat
from outbox.tasks import prune_old_events
from tests.outbox.alerts.world import Kind, alerts, beat, check, hook_config, problem, send
from tests.outbox.sinks.receiver import Receiver
from tests.processes import eventually

pytestmark = pytest.mark.django_db(transaction=True)

NOON = datetime(2026, 11, 28, 12, 0, tzinfo=UTC)
DAY = timedelta(days=1)
CALL = "tests.outbox.alerts.test_claims.page_on_call"
USING = "default"

#: What happens in `page_on_call`, in order.
happened: list[str] = []


def page_on_call(message: AlertMessage) -> None:
    happened.append("begin")
    if message.text.startswith("ask"):
        Heartbeat.objects.exists()
    happened.append("end")


@contextmanager
def around() -> Iterator[None]:
    happened.append("apart from forks")
    yield
    happened.append("forks allowed")


@pytest.fixture(autouse=True)
def _nothing_happened() -> None:
    happened.clear()


def _is_extended(until: datetime) -> bool:
    return AlertClaim.objects.get().until > until


def _is_over(thread: str) -> bool:
    return thread not in [one.name for one in threading.enumerate()]


def statements(queries: CaptureQueriesContext, table: str) -> list[str]:
    return [one["sql"] for one in queries.captured_queries if f'FROM "{table}"' in one["sql"]]


def writes(queries: CaptureQueriesContext) -> list[str]:
    """Each transaction that writes: a whole `atomic`, or one statement outside of it."""
    found, is_open = [], False
    for sql in (one["sql"] for one in queries.captured_queries):
        if sql.startswith("BEGIN"):
            is_open = True
            found.append(sql)
        elif sql.startswith(("COMMIT", "ROLLBACK")):
            is_open = False
        elif not is_open and not sql.startswith("SELECT"):
            found.append(sql)
    return found


class TestTheClockThatGoesBack:
    """Seen to fail for each with a row whose time lies a day in the future."""

    def test_does_not_prevent_checks(self):
        with time_machine.travel(NOON, tick=False) as clock:
            assert claims.take("check", seconds=120, using=USING)
            clock.shift(-DAY)

            assert claims.take("check", seconds=120, using=USING)

    def test_does_not_end_a_claim_by_a_little(self):
        with time_machine.travel(NOON, tick=False) as clock:
            assert claims.take("check", seconds=120, using=USING)
            clock.shift(-timedelta(seconds=30))

            assert not claims.take("check", seconds=120, using=USING)

    def test_does_not_prevent_messages_of_a_channel_that_failed(self, hook: Receiver):
        config = hook_config(hook.url)
        with time_machine.travel(NOON, tick=False) as clock:
            check(config, problem())
            AlertNotice.objects.update(retry_at=NOON + timedelta(minutes=10))
            clock.shift(-DAY)

            assert send(config) == 1

    def test_does_not_prevent_repetitions(self, hook: Receiver):
        config = hook_config(hook.url)
        with time_machine.travel(NOON, tick=False) as clock:
            check(config, problem())
            assert send(config) == 1
            clock.shift(-DAY)

            assert send(config) == 1

    def test_does_not_keep_an_alert_open(self):
        config = alerts()
        with time_machine.travel(NOON, tick=False) as clock:
            check(config, problem())
            clock.shift(-DAY)
            check(config)

            assert not Alert.objects.filter(resolved_at=None).exists()

    def test_does_not_resolve_an_alert_that_is_still_found(self):
        config = alerts()
        with time_machine.travel(NOON, tick=False) as clock:
            check(config, problem())
            clock.shift(-DAY)
            check(config, problem())

            assert Alert.objects.get().seen_at == NOON - DAY
            assert Alert.objects.get().resolved_at is None


class TestTheClaimOfAChannel:
    def test_lasts_as_long_as_a_message_is_sent(
        self, hook: Receiver, monkeypatch: pytest.MonkeyPatch
    ):
        """Seen to fail with a claim of a fixed length: a slow mail server got the message twice."""
        config = hook_config(hook.url)
        monkeypatch.setattr(claims, "_EXTENSIONS", 6000)
        others: list[int] = []

        def slow(*_: object) -> None:
            for _minute in range(2):
                clock.shift(timedelta(seconds=50))
                until = timezone.now() + timedelta(seconds=59)
                eventually(partial(_is_extended, until), "a longer claim")
            others.append(send(config))

        with time_machine.travel(NOON, tick=False) as clock:
            check(config, problem())
            monkeypatch.setattr(sending, "send", slow)
            send(config)

        assert others == [0]

    def test_is_short_so_that_a_dead_process_holds_it_briefly(self, hook: Receiver):
        config = hook_config(hook.url, TIMEOUT_SECONDS=300)
        check(config, problem())
        with time_machine.travel(timezone.now(), tick=False) as clock:
            assert claims.take("channel chat", seconds=sending.CLAIM_SECONDS, using=USING)
            assert send(config) == 0
            clock.shift(timedelta(seconds=60))

            assert send(config) == 1

    def test_of_an_earlier_release_is_left_to_it(self, hook: Receiver):
        """Seen to fail: that release took it for many timeouts at once, and sent as well."""
        config = hook_config(hook.url)
        check(config, problem())
        assert claims.take("channel chat", seconds=300, using=USING)

        assert send(config) == 0

    def test_is_not_extended_for_ever(self):
        token = claims.take("channel chat", seconds=0.05, using=USING)
        extended = claims.kept(
            "channel chat", token, seconds=0.05, at_most=0.0, using=USING, around=nullcontext
        )

        with extended:
            time.sleep(0.1)

        assert claims.take("channel chat", seconds=60, using=USING)

    def test_is_extended_again_after_an_extension_that_failed(
        self, monkeypatch: pytest.MonkeyPatch
    ):
        """Seen to fail: one lost connection ended the extensions, and the message came twice."""
        token = claims.take("channel chat", seconds=60, using=USING)
        tries: list[bool] = []
        really = claims.keep

        def keep(*arguments: Any, **options: Any) -> bool:
            tries.append(True)
            if len(tries) == 1:
                raise OperationalError("database is locked")
            return really(*arguments, **options)

        monkeypatch.setattr(claims, "keep", keep)
        monkeypatch.setattr(claims, "_EXTENSIONS", 6000)
        until = AlertClaim.objects.get().until
        with claims.kept(
            "channel chat", token, seconds=120, at_most=60, using=USING, around=nullcontext
        ):
            eventually(lambda: _is_extended(until), "a longer claim")

    def test_is_extended_no_more_once_another_process_has_it(self, monkeypatch: pytest.MonkeyPatch):
        tries: list[bool] = []

        def keep(*_: Any, **__: Any) -> bool:
            tries.append(True)
            return False

        monkeypatch.setattr(claims, "keep", keep)
        monkeypatch.setattr(claims, "_EXTENSIONS", 1000)
        with claims.kept(
            "channel chat", "gone", seconds=1, at_most=60, using=USING, around=nullcontext
        ):
            eventually(lambda: _is_over("outbox-alerts claim channel chat"), "its end")

        assert tries == [True]

    def test_is_extended_for_longer_than_a_mail_server_may_take(self, settings: Settings):
        settings.EMAIL_TIMEOUT = 900
        [mail] = alerts().channels.values()

        assert sending.longest_seconds(mail) >= 20 * 900


class TestADueMessage:
    def test_is_read_alone(self, hook: Receiver):
        """Seen to fail where all due notices were loaded for each message."""
        config = hook_config(hook.url)
        check(config, *[problem(f"dead:{number}") for number in range(20)])
        [channel] = config.channels.values()

        with CaptureQueriesContext(connection) as queries:
            assert Sender(channel, config, using=USING).has_due()

        [sql] = statements(queries, AlertNotice._meta.db_table)
        assert "LIMIT 1" in sql

    def test_is_not_read_in_quiet_hours(self, hook: Receiver):
        quiet = {"FROM": "22:00", "TO": "07:00", "TIME_ZONE": "UTC", "EXCEPT": ["silent"]}
        config = hook_config(hook.url, QUIET_HOURS=quiet)
        [channel] = config.channels.values()
        with time_machine.travel(NOON.replace(hour=23), tick=False):
            check(config, problem())

            with CaptureQueriesContext(connection) as queries:
                assert not Sender(channel, config, using=USING).has_due()

        [sql] = statements(queries, AlertNotice._meta.db_table)
        assert '"trigger" IN' in sql


class TestTheFindingsOfACheck:
    @pytest.mark.parametrize("number", [1, 20])
    def test_are_stored_in_one_transaction(self, number: int):
        """Seen to fail with a write lock of SQLite for each kind of row."""
        config, found = alerts(), [problem(f"dead:{one}") for one in range(number)]
        check(config, *found[1:])

        with CaptureQueriesContext(connection) as queries:
            check(config, *found)

        assert len(writes(queries)) == 1

    def test_cost_no_write_if_there_is_nothing_to_store(self):
        with CaptureQueriesContext(connection) as queries:
            check(alerts())

        assert writes(queries) == []


class TestAFunctionOfTheProject:
    def send(self, text: str) -> None:
        config = alerts(CHANNELS={"pager": {"CALL": CALL}})
        check(config, problem(text=text))
        [channel] = config.channels.values()
        Sender(channel, config, using=USING, around=around).send_due()

    def test_uses_a_database_only_where_no_process_is_forked(self):
        """Seen to fail with a call outside of `around`."""
        self.send("ask the database")

        begin = happened.index("begin")
        assert happened[begin : begin + 4] == [
            "begin",
            "apart from forks",
            "end",
            "forks allowed",
        ]

    def test_delays_no_fork_without_a_database(self):
        self.send("no database")

        begin = happened.index("begin")
        assert happened[begin - 1 : begin + 2] == ["forks allowed", "begin", "end"]


class TestThePingOfAProcessThatDies:
    def test_is_sent_by_another_one_soon(self, hook: Receiver, monkeypatch: pytest.MonkeyPatch):
        """Seen to fail with a claim of `SECONDS`: the service raised a false alarm."""
        config = alerts(CHANNELS={}, DEAD_MAN={"URL": hook.url, "SECONDS": 3600})
        with time_machine.travel(timezone.now(), tick=False) as clock:
            beat(Kind.RELAY, Kind.BEAT)
            with monkeypatch.context() as patched:
                patched.setattr(Watch, "_start", lambda *_: None)  # it dies before it sends
                Watch(config).look()
            assert hook.requests == []
            clock.shift(timedelta(seconds=25))
            beat(Kind.RELAY, Kind.BEAT)

            again = Watch(config)
            again.look()
            again.wait()

        assert len(hook.requests) == 1

    def test_is_sent_soon_after_the_relay_is_back(self, hook: Receiver):
        config = alerts(CHANNELS={}, DEAD_MAN={"URL": hook.url, "SECONDS": 3600})
        with time_machine.travel(timezone.now(), tick=False) as clock:
            one = Watch(config)
            one.look()
            one.wait()
            assert hook.requests == []
            clock.shift(timedelta(seconds=10))
            beat(Kind.RELAY, Kind.BEAT)

            again = Watch(config)
            again.look()
            again.wait()

        assert len(hook.requests) == 1

    def test_has_a_claim_that_outlasts_the_ping(self):
        ping = alerts(CHANNELS={}, DEAD_MAN={"URL": "https://a.example", "TIMEOUT_SECONDS": 30})

        assert ping.dead_man is not None
        assert dead_man.longest_seconds(ping.dead_man) > 2 * 30


class TestAlertsWithoutAChannel:
    """Seen to fail for each without `end_unwatched`: the alerts stayed open for ever."""

    def test_are_resolved_and_have_no_further_message(self, hook: Receiver, settings: Settings):
        config = hook_config(hook.url)
        with time_machine.travel(NOON, tick=False) as clock:
            check(config, problem())
            send(config)
            settings.OUTBOX = {}
            clock.shift(recording.UNWATCHED_AFTER)

            end_unwatched()

        assert Alert.objects.get().resolved_at == NOON + recording.UNWATCHED_AFTER
        assert AlertNotice.objects.get().closed_at is not None
        assert send(config) == 0

    @pytest.mark.parametrize("job", [prune, prune_old_events])
    def test_are_ended_by_a_periodic_job(self, settings: Settings, job: Callable[[], None]):
        with time_machine.travel(NOON, tick=False) as clock:
            check(alerts(), problem())
            settings.OUTBOX = {}
            clock.shift(timedelta(hours=1))

            job()

        assert Alert.objects.get().resolved_at is not None

    def test_are_deleted_after_thirty_days(self, settings: Settings):
        config = alerts()
        with time_machine.travel(NOON, tick=False) as clock:
            check(config, problem())
            settings.OUTBOX = {}
            for _ in range(2):
                clock.shift(timedelta(days=31))
                end_unwatched()

        assert not Alert.objects.exists()

    def test_stay_open_while_another_process_with_a_channel_checks(self, settings: Settings):
        check(alerts(), problem())
        settings.OUTBOX = {}

        end_unwatched()

        assert Alert.objects.get().resolved_at is None

    def test_are_left_to_the_checks_where_a_channel_is_configured(self, settings: Settings):
        with time_machine.travel(NOON, tick=False) as clock:
            check(alerts(), problem())
            settings.OUTBOX = {"ALERTS": {"CHANNELS": {"mail": {"EMAIL": ["a@example.com"]}}}}
            clock.shift(timedelta(hours=1))

            end_unwatched()

        assert Alert.objects.get().resolved_at is None
