"""The problems that a check finds: one for each cause, with the next step and a page."""

from __future__ import annotations

from datetime import timedelta
from uuid import uuid4

import pytest
import time_machine
from django.test.utils import override_script_prefix
from django.urls import clear_url_caches
from django.utils import timezone
from pytest_django import Settings

from outbox import DomainEvent, Pause, PermanentFailure, subscribe
from outbox.alerts import problems
from outbox.alerts.configuration import LIMITS
from outbox.alerts.findings import Problem, key_of, page
from outbox.models import Attempt, Delivery, Event, Heartbeat, SourceState, Subscription
from outbox.relay.passes import relay_pass
from outbox.settlements.overdue import MISSING
from outbox.sources.unreadable import HANDLER
from outbox.testing import Outbox
from tests.outbox.alerts.world import Kind, beat

pytestmark = pytest.mark.usefixtures("own_registry")


class Weighed(DomainEvent, key="parcel_id"):
    """A parcel is weighed."""

    parcel_id: str


def found(*triggers: str) -> list[Problem]:
    limits = {one: LIMITS[one] for one in triggers}
    return list(problems.find(limits, using="default").problems.values())


def weigh(number: int = 1) -> Outbox:
    """Store events for a handler that refuses them, and return their outbox."""

    @subscribe("tests.Weighed")
    def print_label(parcel_id: str) -> None:
        raise PermanentFailure("no paper")

    outbox = Outbox()
    for _ in range(number):
        outbox.given("tests.Weighed", parcel_id=str(uuid4()))
    return outbox


class TestDeadDeliveries:
    def test_are_one_problem_for_each_cause(self):
        outbox = weigh(3)
        outbox.deliver_all(raise_errors=False)

        [one] = found("dead")

        assert one.text.startswith("tests.print_label has 3 dead deliveries: PermanentFailure (")
        assert "`manage.py outbox retry --dead --handler tests.print_label" in one.text
        assert one.path == "/admin/outbox/delivery/dead/?handler=tests.print_label"

    def test_are_the_same_problem_when_more_die(self):
        outbox = weigh()
        outbox.deliver_all(raise_errors=False)
        [before] = found("dead")
        outbox.given("tests.Weighed", parcel_id="another")
        outbox.deliver_all(raise_errors=False)

        [after] = found("dead")

        assert after.key == before.key
        assert after.text != before.text

    def test_are_not_resolved_where_there_are_more_than_a_check_groups(
        self, monkeypatch: pytest.MonkeyPatch
    ):
        outbox = weigh(3)
        outbox.deliver_all(raise_errors=False)
        monkeypatch.setattr(problems, "MOST_DEAD", 2)

        result = problems.find({"dead": 0.0}, using="default")

        assert result.has_missed("dead:tests.print_label:KeyError:parcels:")
        assert not result.has_missed("dead:tests.other:KeyError:parcels:")

    def test_that_were_overtaken_are_not_simply_retried(self):
        """Failed: "Fix the cause, then retry", although nothing failed, and without the order."""
        outbox = weigh()
        outbox.deliver_all(raise_errors=False)
        Attempt.objects.update(outcome=Attempt.Outcome.OUTAGE, exception="", place="")

        [one] = found("dead")

        chosen = "--handler tests.print_label --overtaken"
        assert one.text == (
            "tests.print_label has 1 dead delivery: a later event of its key ran before it. A "
            "retry runs them out of order. If the handler can run out of order: `manage.py outbox "
            f"retry --dead {chosen}`. Otherwise: `manage.py outbox discard --state dead {chosen} "
            "--reason TEXT`."
        )

    def test_that_no_consumer_has_settled_are_published_again(self):
        weigh().deliver_all(raise_errors=False)
        Attempt.objects.update(exception=MISSING, place="")

        [one] = found("dead")

        assert "Check whether the consumer receives the events. To publish them again: " in one.text

    def test_that_cannot_be_read_are_corrected(self):
        """Failed: it named the retry only, which reads the same message again."""
        weigh().deliver_all(raise_errors=False)
        Subscription.objects.update(handler=HANDLER)
        Attempt.objects.update(message="The body is no JSON: 100% wrong.")
        row = Delivery.objects.get()

        [one] = found("dead")

        command = f"`manage.py outbox correct {row.pk} --body FILE --reason TEXT`"
        assert "The body is no JSON: 100% wrong (" in one.text
        assert f"To correct one: {command}. After a release that can read them: " in one.text

    def test_are_no_problem_if_their_trigger_is_off(self):
        outbox = weigh()
        outbox.deliver_all(raise_errors=False)

        assert found("lag") == []


class TestAFailingHandler:
    def fail(self, text: str) -> None:
        """Run a handler once that raises, and let its delivery wait for the next attempt."""

        @subscribe("tests.Weighed")
        def move_parcel(parcel_id: str) -> None:
            raise ValueError(text)

        outbox = Outbox()
        outbox.given("tests.Weighed", parcel_id="p1")
        outbox.deliver_all(raise_errors=False)

    def test_is_a_problem_from_the_first_failed_attempt(self):
        self.fail("no lift")

        [one] = found("failing")

        assert one.text.startswith("tests.move_parcel is failing: ValueError: no lift (")
        assert "1 delivery, since " in one.text
        assert "To retry now: `manage.py outbox retry " in one.text

    def test_quotes_no_personal_data(self):
        self.fail("no mailbox hanako@example.com")

        [one] = found("failing")

        assert "ValueError: no mailbox *** (" in one.text

    def test_is_one_for_each_outcome_without_an_exception(self):
        """Failed: both had one key, so the alert named one of them."""
        self.fail("no lift")
        outbox = Outbox()
        outbox.given("tests.Weighed", parcel_id="p2")
        outbox.deliver_all(raise_errors=False)
        first, second = Attempt.objects.order_by("pk")
        for one, outcome in ((first, "died"), (second, "outage")):
            values = {"exception": "", "place": "", "outcome": outcome}
            Attempt.objects.filter(pk=one.pk).update(**values)

        assert len({one.key for one in found("failing")}) == 2

    def test_names_the_open_breaker_of_its_handler(self):
        """The breaker is a problem of its own, for channels that do not report failing ones."""
        self.fail("no answer")
        now = timezone.now()
        Subscription.objects.update(
            breaker_opened_at=now, breaker_probe_at=now, breaker_reason="no answer"
        )

        failing, breaker = found("failing", "breaker")

        assert failing.key.startswith("failing:tests.move_parcel:ValueError:")
        assert "close-breaker tests.move_parcel" in failing.text
        assert breaker.key == "breaker:tests.move_parcel"


class TestALag:
    def test_of_a_handler_is_the_time_that_a_due_delivery_waits(self):
        weigh()
        relay_pass(publish=lambda _message: None)
        late = timezone.now() - timedelta(seconds=400)
        Delivery.objects.update(state="pending", due_at=late)

        [one] = found("lag")

        assert one.key == "lag:tests.print_label"
        assert one.text.startswith("tests.print_label lags: 1 delivery waits, one has been due ")
        # Failed: nothing led to a full share. Workers and doctor are well then.
        assert f"`manage.py outbox why {Delivery.objects.get().pk}`" in one.text

    def test_of_a_handler_is_also_that_of_messages_that_no_worker_starts(self):
        """Failed: each lease they are sent again, so none is ever pending for long."""
        now = timezone.now()
        weigh()
        relay_pass(publish=lambda _message: None)
        Event.objects.update(fanned_out_at=now - timedelta(minutes=20))
        Delivery.objects.update(
            state="sent", token=12, started_token=0, due_at=now + timedelta(seconds=60)
        )

        with time_machine.travel(now, tick=False):
            [one] = found("lag")

        assert one.text.startswith(
            "tests.print_label lags: 1 delivery waits, one has been due for 11 min. "
        )

    def test_of_the_relay_is_the_age_of_an_event_without_deliveries(self):
        with time_machine.travel(timezone.now(), tick=False):
            weigh()
            Event.objects.update(emitted_at=timezone.now() - timedelta(seconds=301))

            [one] = found("lag")

        assert one.key == "lag:relay"
        assert one.text.startswith("Events wait for the relay, the oldest for 5 min 1 s.")


class TestAnOpenBreaker:
    def test_is_a_problem_with_the_next_step(self):
        weigh()
        now = timezone.now()
        Subscription.objects.update(
            breaker_opened_at=now, breaker_probe_at=now, breaker_reason="no answer"
        )

        [one] = found("breaker")

        assert "tests.print_label is held by its breaker" in one.text
        assert "close-breaker tests.print_label" in one.text


class TestAHandlerThatIsPausedByItsRule:
    """Its delivery is parked: neither failing nor dead."""

    @pytest.fixture
    def paused(self) -> None:
        @subscribe("tests.Weighed", rules={TimeoutError: Pause("The scales are away")})
        def print_label(parcel_id: str) -> None:
            raise TimeoutError

        outbox = Outbox()
        outbox.given("tests.Weighed", parcel_id=str(uuid4()))
        outbox.deliver_all(raise_errors=False)

    def test_is_a_problem_with_reason_and_next_step(self, paused: None):
        [one] = found("failing", "dead", "lag", "breaker", "paused")

        assert one.key == "paused:tests.print_label"
        assert "The scales are away" in one.text
        assert "resume tests.print_label" in one.text

    def test_does_not_resolve_the_alert_of_its_failure(self, paused: None):
        findings = problems.find(LIMITS, using="default")

        assert "failing:tests.print_label:" in findings.unexamined

    def test_is_none_if_it_owes_nothing(self, paused: None):
        Delivery.objects.update(state="done")

        assert found("paused") == []


class TestATriggerThatRaises:
    def test_hides_no_problem_of_another_and_resolves_none_of_its_own(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ):
        def fail(**_: object) -> None:
            raise ValueError("of a test")

        monkeypatch.setattr(problems, "groups", fail)

        findings = problems.find(LIMITS, using="default")

        assert "silent:relay:" in findings.problems
        assert findings.has_missed("dead:tests.print_label:")
        assert "The check of the alerts' trigger dead failed" in caplog.text


class TestASilentPart:
    def test_is_a_problem_for_each_part(self):
        beat(Kind.RELAY, Kind.BROKER)
        beat(Kind.BEAT, ago=120)

        keys = {one.key for one in found("silent")}

        assert keys == {"silent:beat:", "silent:queue:outbox"}

    def test_is_beat_if_its_process_runs_and_sends_no_task(self):
        beat(Kind.BEAT, ago=120)
        now = timezone.now()
        Heartbeat.objects.create(kind=Kind.BEAT, name="host.7", started_at=now, seen_at=now)

        assert "silent:beat:" in {one.key for one in found("silent")}

    def test_names_the_time(self):
        with time_machine.travel(timezone.now(), tick=False):
            beat(Kind.BEAT, ago=120)

            texts = {one.key: one.text for one in found("silent")}

        assert texts["silent:beat:"] == (
            "No recent heartbeat of beat: silent for 2 min. Run `manage.py outbox doctor`."
        )


class TestASource:
    SOURCES = {
        "billing": {
            "BACKEND": "tests.outbox.sources.messages.NoSource",
            "TOPICS": ["invoices"],
            "GROUP": "parcels",
        }
    }

    def test_without_a_process_is_a_problem(self, settings: Settings):
        settings.OUTBOX = {"SOURCES": self.SOURCES}

        [one] = found("source")

        assert one.key == "source:billing:absent"
        assert "Start `manage.py outbox receive billing`." in one.text

    def test_that_cannot_receive_is_a_problem(self, settings: Settings):
        settings.OUTBOX = {"SOURCES": self.SOURCES}
        beat(Kind.RECEIVER)
        Heartbeat.objects.update(queues=["billing"])
        SourceState.objects.create(
            source="billing", failing_at=timezone.now(), failure="access denied"
        )

        [one] = found("source")

        assert one.text == (
            "The source billing cannot receive: access denied. Correct the cause. Its process "
            "tries again, and its log has the details."
        )


class TestAKey:
    def test_of_long_names_fits_its_column_and_stays_different(self):
        one = key_of("dead", "a" * 150, "b" * 100, "one")
        other = key_of("dead", "a" * 150, "b" * 100, "other")

        assert len(one) <= 200
        assert one != other


class TestALink:
    def test_is_left_out_if_it_does_not_fit_its_column(self):
        """Failed: PostgreSQL refused the row, so no alert at all was stored."""
        short, long = "荷物." + "送" * 40, "荷物." + "送" * 60

        assert page("outbox_delivery_dead", handler=short).endswith("%E9%80%81")
        assert page("outbox_delivery_dead", handler=long) == ""

    def test_has_no_script_prefix(self):
        """`SITE_URL` has it. Failed: commands know the prefix, and threads do not."""
        with override_script_prefix("/shop/"):
            assert page("outbox_minute_changelist") == "/admin/outbox/minute/"

    def test_is_empty_without_the_admin(self, settings: Settings):
        settings.ROOT_URLCONF = "tests.outbox.alerts.world"  # a module without URLs
        clear_url_caches()

        assert page("outbox_minute_changelist") == ""

    def test_is_empty_if_the_urls_of_the_project_cannot_be_imported(self, settings: Settings):
        """Seen to fail: one broken import, and no problem was found at all."""
        settings.ROOT_URLCONF = "parcels.urls_that_do_not_exist"
        clear_url_caches()

        assert page("outbox_minute_changelist") == ""

    def test_is_empty_without_a_setting_of_urls(self, settings: Settings):
        del settings.ROOT_URLCONF
        clear_url_caches()

        assert page("outbox_minute_changelist") == ""
