"""Messages of alerts: once per problem and channel, repeated, held, and ended."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import time_machine

from outbox.alerts import claims, sending
from outbox.alerts.channels import send as send_message
from outbox.alerts.findings import Problem
from outbox.alerts.sending import Sender
from outbox.models import Alert, AlertNotice
from tests.outbox.alerts.world import alerts, check, hook_config, problem, send
from tests.outbox.sinks.receiver import Receiver, answers
from tests.servers.smtp import MailServer
from tests.threads import run_together

pytestmark = pytest.mark.django_db(transaction=True)

NOON = datetime(2026, 11, 28, 12, 0, tzinfo=UTC)


def texts(hook: Receiver) -> list[str]:
    return [json.loads(one.body)["text"] for one in hook.requests]


class TestAProblem:
    def test_is_reported_once_however_often_it_is_found(self, hook: Receiver):
        config = hook_config(hook.url)

        for _ in range(5):
            check(config, problem())
            send(config)

        assert len(hook.requests) == 1

    def test_is_reported_by_one_of_two_processes(self, hook: Receiver):
        """Seen to fail with claims that are always granted."""
        config = hook_config(hook.url)
        check(config, problem())

        run_together([lambda: send(config)] * 4)

        assert len(hook.requests) == 1

    def test_is_reported_to_each_channel(self, mails: MailServer, hook: Receiver):
        channels = {"mail": {"EMAIL": ["a@example.com"]}, "chat": {"WEBHOOK": hook.url}}
        config = alerts(CHANNELS=channels)
        check(config, problem())

        send(config)

        assert (len(mails.taken), len(hook.requests)) == (1, 1)

    def test_is_not_reported_to_a_channel_without_its_trigger(self, hook: Receiver):
        config = hook_config(hook.url, TRIGGERS=["silent"])
        check(config, problem())

        assert send(config) == 0

    def test_has_the_text_of_the_latest_check_and_a_link(self, hook: Receiver):
        channels = {"chat": {"WEBHOOK": hook.url}}
        config = alerts(CHANNELS=channels, SITE_URL="https://shop.example.com/")
        check(config, problem(text="First text."))
        check(config, problem(text="Second text."))

        send(config)

        url = "https://shop.example.com/admin/outbox/delivery/dead/"
        assert texts(hook) == [f"Second text.\n{url}"]

    def test_has_no_personal_data_in_its_messages(self, hook: Receiver):
        config = hook_config(hook.url)
        check(config, problem(text="No mailbox hanako@example.com, phone 0901234567."))

        send(config)

        assert texts(hook) == ["No mailbox ***, phone ***."]
        assert Alert.objects.get().text == "No mailbox ***, phone ***."


class TestAProblemThatLasts:
    def test_is_not_reported_before_its_limit(self, hook: Receiver):
        config = hook_config(hook.url)
        silent = problem("silent:relay", trigger="silent")
        with time_machine.travel(NOON, tick=False) as clock:
            check(config, silent)
            assert send(config) == 0

            clock.shift(timedelta(seconds=60))
            check(config, silent)

            assert send(config) == 1

    def test_is_reported_as_a_lag_if_a_second_check_finds_it(self, hook: Receiver):
        """A delivery that workers hand back looks late while its message is on its way."""
        config = hook_config(hook.url)
        late = problem("lag:parcels", trigger="lag")
        with time_machine.travel(NOON, tick=False) as clock:
            check(config, late)
            assert send(config) == 0

            clock.shift(timedelta(seconds=10))
            check(config, late)

            assert send(config) == 1

    def test_is_repeated_after_the_interval(self, hook: Receiver):
        config = hook_config(hook.url, REPEAT_SECONDS=3600)
        with time_machine.travel(NOON, tick=False) as clock:
            check(config, problem())
            send(config)
            clock.shift(timedelta(seconds=3599))
            check(config, problem())
            assert send(config) == 0

            clock.shift(timedelta(seconds=1))

            assert send(config) == 1
        assert "This message is repeated" in texts(hook)[1]

    def test_is_not_repeated_if_the_interval_is_none(self, hook: Receiver):
        config = hook_config(hook.url, REPEAT_SECONDS=None)
        with time_machine.travel(NOON, tick=False) as clock:
            check(config, problem())
            send(config)
            clock.shift(timedelta(days=30))

            assert send(config) == 0


class TestAProblemThatIsGone:
    def test_is_reported_as_resolved_once(self, hook: Receiver):
        config = hook_config(hook.url)
        with time_machine.travel(NOON, tick=False) as clock:
            check(config, problem())
            send(config)
            clock.shift(timedelta(minutes=5))
            for _ in range(3):
                check(config)
                send(config)

        assert len(hook.requests) == 2
        assert texts(hook)[1].startswith("Resolved after 5 min: parcels.label_parcel has 3 dead")

    def test_is_resolved_only_after_checks_without_it_for_a_minute(self, hook: Receiver):
        config = hook_config(hook.url)
        with time_machine.travel(NOON, tick=False) as clock:
            check(config, problem())
            clock.shift(timedelta(seconds=59))
            check(config)
            assert Alert.objects.filter(resolved_at=None).count() == 1

            clock.shift(timedelta(seconds=1))
            check(config)

            assert Alert.objects.filter(resolved_at=None).count() == 0

    def test_has_no_message_if_none_was_sent_before(self, hook: Receiver):
        config = hook_config(hook.url)
        with time_machine.travel(NOON, tick=False) as clock:
            check(config, problem("silent:beat", trigger="silent"))
            clock.shift(timedelta(minutes=5))
            check(config)

            assert send(config) == 0

    def test_stays_open_where_the_check_may_have_missed_it(self):
        config = alerts()
        with time_machine.travel(NOON, tick=False) as clock:
            check(config, problem("dead:parcels.label:ValueError"))
            clock.shift(timedelta(minutes=5))
            check(config, unexamined=("dead:parcels.label:",))

            assert Alert.objects.filter(resolved_at=None).count() == 1

    def test_opens_a_new_alert_when_it_comes_back(self, hook: Receiver):
        config = hook_config(hook.url)
        with time_machine.travel(NOON, tick=False) as clock:
            for found in ([problem()], [], [problem()]):
                check(config, *found)
                send(config)
                clock.shift(timedelta(minutes=5))

        assert len(hook.requests) == 3
        assert Alert.objects.count() == 2

    def test_is_forgotten_after_thirty_days(self):
        config = alerts()
        with time_machine.travel(NOON, tick=False) as clock:
            for days in (0, 1, 32):
                clock.move_to(NOON + timedelta(days=days))
                check(config, *([] if days else [problem()]))

        assert Alert.objects.count() == 0
        assert AlertNotice.objects.count() == 0

    def test_is_reported_as_resolved_if_its_first_message_was_on_its_way(
        self, hook: Receiver, monkeypatch: pytest.MonkeyPatch
    ):
        """Seen to fail where the notice of an alert without a message is deleted."""
        config = hook_config(hook.url)
        with time_machine.travel(NOON, tick=False) as clock:
            check(config, problem())

            def resolve_meanwhile(*arguments: Any) -> None:
                send_message(*arguments)
                monkeypatch.undo()
                clock.shift(timedelta(minutes=5))
                check(config)

            monkeypatch.setattr(sending, "send", resolve_meanwhile)
            send(config)

        assert [text.startswith("Resolved") for text in texts(hook)] == [False, True]


class TestATriggerThatIsTurnedOff:
    """No check looks for its problems any more, and they may last."""

    def test_sends_no_message_that_its_problem_is_resolved(self, hook: Receiver):
        """Failed: each channel got "Resolved" for a handler that was still paused."""
        before = hook_config(hook.url)
        channels = {"chat": {"WEBHOOK": hook.url}}
        after = alerts(CHANNELS=channels, LIMITS={"dead": None})
        with time_machine.travel(NOON, tick=False) as clock:
            check(before, problem())
            send(before)
            for _ in range(2):
                clock.shift(timedelta(minutes=5))
                check(after, unexamined=("dead:",))
                send(after)

        assert len(hook.requests) == 1
        assert Alert.objects.get().resolved_at is not None
        assert AlertNotice.objects.get().closed_at is not None

    def test_sends_no_repetition(self, hook: Receiver):
        before = hook_config(hook.url)
        channels = {"chat": {"WEBHOOK": hook.url, "REPEAT_SECONDS": 60}}
        after = alerts(CHANNELS=channels, LIMITS={"dead": None})
        with time_machine.travel(NOON, tick=False) as clock:
            check(before, problem())
            send(before)
            clock.shift(timedelta(minutes=5))

            assert send(after) == 0

    def test_of_one_channel_sends_it_no_further_message(self, hook: Receiver):
        """Failed: it got repetitions and the last message for as long as the alert was open."""
        before = hook_config(hook.url)
        after = hook_config(hook.url, TRIGGERS=["lag"], REPEAT_SECONDS=60)
        with time_machine.travel(NOON, tick=False) as clock:
            check(before, problem())
            send(before)
            clock.shift(timedelta(minutes=5))
            assert send(after) == 0
            check(after)
            assert send(after) == 0

            assert send(before) == 0, "The problem is long gone when the trigger is on again."

        assert len(hook.requests) == 1

    def test_of_one_channel_sends_the_others_their_messages(
        self, hook: Receiver, mails: MailServer
    ):
        mail = {"EMAIL": ["a@example.com"]}
        before = alerts(CHANNELS={"mail": mail, "chat": {"WEBHOOK": hook.url}})
        muted = {"WEBHOOK": hook.url, "TRIGGERS": ["lag"]}
        after = alerts(CHANNELS={"mail": mail, "chat": muted})
        with time_machine.travel(NOON, tick=False) as clock:
            check(before, problem())
            send(before)
            clock.shift(timedelta(minutes=5))
            check(after)
            send(after)

        assert (len(hook.requests), len(mails.taken)) == (1, 2)


class TestAnOpenBreaker:
    """The message of its handler's failing deliveries names it."""

    OPEN = problem("breaker:parcels.label", trigger="breaker", text="The breaker is open.")
    FAILING = problem("failing:parcels.label:ValueError:", trigger="failing", text="It fails.")
    OTHER = problem("failing:parcels.label_all:ValueError:", trigger="failing", text="It fails.")

    def texts(self, hook: Receiver, *problems: Problem, **values: Any) -> list[str]:
        """Return the texts that a channel gets about problems that last for two minutes."""
        config = hook_config(hook.url, **values)
        for seconds in (0, 60, 120):
            with time_machine.travel(NOON + timedelta(seconds=seconds), tick=False):
                check(config, *problems)
                send(config)
        return texts(hook)

    def test_is_in_one_message(self, hook: Receiver):
        assert self.texts(hook, self.OPEN, self.FAILING) == ["It fails."]

    def test_is_reported_where_no_delivery_of_its_handler_is_failing(self, hook: Receiver):
        assert self.texts(hook, self.OPEN, self.OTHER) == ["The breaker is open.", "It fails."]

    def test_is_reported_to_a_channel_that_does_not_report_failing_deliveries(self, hook: Receiver):
        """Failed: deliveries fail as long as a breaker is open, so it never had a message."""
        texts = self.texts(hook, self.OPEN, self.FAILING, TRIGGERS=["breaker"])

        assert texts == ["The breaker is open."]

    def test_is_reported_in_quiet_hours_that_hold_the_other_message(self, hook: Receiver):
        quiet = {"FROM": "11:00", "TO": "13:00", "TIME_ZONE": "UTC", "EXCEPT": ["breaker"]}

        texts = self.texts(hook, self.OPEN, self.FAILING, QUIET_HOURS=quiet)

        assert texts == ["The breaker is open."]

    def test_is_in_one_message_while_a_check_misses_the_failing_deliveries(self, hook: Receiver):
        """All of them may be in flight, as probes."""
        config = hook_config(hook.url)
        with time_machine.travel(NOON, tick=False) as clock:
            for problems in ([self.OPEN, self.FAILING], [self.OPEN, self.FAILING], [self.OPEN]):
                check(config, *problems)
                send(config)
                clock.shift(timedelta(seconds=30))

            check(config, self.OPEN, self.FAILING)
            send(config)

        assert texts(hook) == ["It fails."]


class TestQuietHours:
    QUIET = {"FROM": "22:00", "TO": "07:00", "TIME_ZONE": "Asia/Tokyo", "EXCEPT": ["silent"]}
    #: 23:00 in Tokyo.
    NIGHT = datetime(2026, 11, 28, 14, 0, tzinfo=UTC)

    def test_hold_a_message_until_their_end(self, hook: Receiver):
        config = hook_config(hook.url, QUIET_HOURS=self.QUIET)
        with time_machine.travel(self.NIGHT, tick=False) as clock:
            check(config, problem())
            assert send(config) == 0

            clock.shift(timedelta(hours=8))
            check(config, problem())

            assert send(config) == 1

    def test_hold_no_message_of_an_exception(self, hook: Receiver):
        config = hook_config(hook.url, QUIET_HOURS=self.QUIET)
        silent = problem("silent:relay", trigger="silent")
        with time_machine.travel(self.NIGHT, tick=False) as clock:
            check(config, problem(), silent)
            clock.shift(timedelta(minutes=2))
            check(config, problem(), silent)

            assert send(config) == 1

    def test_hold_the_message_that_a_problem_is_resolved(self, hook: Receiver):
        config = hook_config(hook.url, QUIET_HOURS=self.QUIET)
        with time_machine.travel(NOON, tick=False) as clock:
            check(config, problem())
            send(config)
            clock.move_to(self.NIGHT)
            check(config)
            assert send(config) == 0

            clock.shift(timedelta(hours=8))

            assert send(config) == 1

    def test_belong_to_one_channel(self, hook: Receiver, mails: MailServer):
        chat = {"WEBHOOK": hook.url, "QUIET_HOURS": self.QUIET}
        config = alerts(CHANNELS={"chat": chat, "mail": {"EMAIL": ["a@example.com"]}})
        with time_machine.travel(self.NIGHT, tick=False):
            check(config, problem())
            send(config)

        assert (len(hook.requests), len(mails.taken)) == (0, 1)


class TestAChannelThatFails:
    def test_gets_the_message_later(self, hook: Receiver, caplog: pytest.LogCaptureFixture):
        config = hook_config(hook.url)
        hook.behaviour = answers(503)
        with time_machine.travel(NOON, tick=False) as clock:
            check(config, problem())
            assert send(config) == 0
            assert send(config) == 0  # not again at once
            hook.behaviour = answers(200)
            clock.shift(timedelta(seconds=10))

            assert send(config) == 1

        assert len(hook.requests) == 2
        assert "127.0.0.1 answered 503." in caplog.text

    def test_has_its_error_stored(self, hook: Receiver):
        config = hook_config(hook.url)
        hook.behaviour = answers(404)
        check(config, problem())

        send(config)

        notice = AlertNotice.objects.get()
        assert notice.failures == 1
        assert notice.error == "The webhook did not take it: 127.0.0.1 answered 404."

    def test_gets_a_message_again_if_its_sender_died_before_the_outcome_was_stored(
        self, hook: Receiver, monkeypatch: pytest.MonkeyPatch
    ):
        config = hook_config(hook.url)
        with time_machine.travel(NOON, tick=False) as clock:
            check(config, problem())
            with monkeypatch.context() as patched:
                patched.setattr(Sender, "_store", _die)
                patched.setattr(claims, "release", lambda *_, **__: None)
                with pytest.raises(SystemExit):
                    send(config)
            assert send(config) == 0  # the claim of the dead process lasts
            clock.shift(timedelta(minutes=5))

            assert send(config) == 1

        assert len(hook.requests) == 2


def _die(*_: object) -> None:
    raise SystemExit
