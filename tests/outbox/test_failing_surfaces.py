"""Each page and command names the exception of a handler after its first failed attempt."""

from __future__ import annotations

import json
import re
import shlex
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from pytest_django import Settings

from outbox import subscribe
from outbox.doctor import examine_without_broker
from outbox.metrics import families
from outbox.models import Attempt, Delivery, Minute, Operation, Subscription
from outbox.monitor.failing import failing_groups
from tests.outbox.command import outbox_command
from tests.outbox.drive import emit_orders, run_messages, run_pass
from tests.outbox.parcels import client_with, text_of

FAILURES = reverse("admin:outbox_delivery_dead")
ACT = reverse("admin:outbox_delivery_dead_act")
OVERVIEW = reverse("admin:outbox_minute_changelist")
CHECKS = reverse("admin:outbox_minute_health_checks")
SENTENCE = re.compile(
    r"failing: ZeroDivisionError in tests.award_points, 2 deliveries, since \d\d:\d\d UTC, "
    r"next attempt in \d+ s"
)


@pytest.fixture(autouse=True)
def failed_once(own_registry: None, no_nudge: None, settings: Settings) -> None:
    """A handler that always raises; a worker has made the first attempt of two deliveries."""
    settings.OUTBOX = {**settings.OUTBOX, "RELEASE": "1.4.2"}

    @subscribe("shops.Ordered", backoff_base=60)
    def award_points(number: int) -> None:
        raise ZeroDivisionError("division by zero")

    emit_orders(2)
    run_messages(run_pass())
    Delivery.objects.update(due_at=timezone.now() + timedelta(seconds=40))  # no jitter
    assert {row.attempts for row in Delivery.objects.all()} == {1}


def gauge(name: str) -> dict[tuple[str, ...], float]:
    (family,) = [one for one in families() if one.name == name]
    return dict(family.samples)


class TestTheStatus:
    def test_has_the_sentence(self):
        assert SENTENCE.search(outbox_command("status"))

    def test_has_the_group_as_json(self):
        found = json.loads(outbox_command("status", "--json"))

        assert [one["failing"] for one in found["handlers"]] == [2]
        (group,) = found["failing"]
        assert (group["exception"], group["message"]) == ("ZeroDivisionError", "division by zero")
        assert (group["number"], group["release"], group["kind"]) == (2, "1.4.2", "failing")
        assert SENTENCE.fullmatch(group["text"])

    def test_is_red_on_a_terminal_with_colours(self):
        lines = outbox_command("--force-color", "status").splitlines()

        (line,) = [one for one in lines if "failing: ZeroDivisionError" in one]
        assert line.startswith("\x1b[31")

    def test_is_plain_without_colours(self):
        assert "\x1b" not in outbox_command("--no-color", "status")


class TestTheGroups:
    def test_name_message_place_release_and_commands(self):
        text = outbox_command("groups")

        (group,) = failing_groups()
        assert SENTENCE.search(text)
        assert f"division by zero, at {group.place}" in text
        assert "no success of the handler in the last 25 hours, release 1.4.2" in text
        assert group.retry in text
        assert "manage.py outbox pause tests.award_points --reason TEXT" in text

    def test_have_a_command_that_makes_them_due(self):
        (group,) = json.loads(outbox_command("groups", "--json"))

        printed = outbox_command(*self.words(group["retry"]))

        assert "2 deliveries made due." in printed
        assert Delivery.objects.filter(due_at__lte=timezone.now()).count() == 2

    def words(self, command: str) -> list[str]:
        return shlex.split(command)[2:]


class TestTheOverview:
    def test_names_the_exception_first(self, admin_client: Client):
        text = text_of(admin_client, OVERVIEW)

        assert SENTENCE.search(text)
        assert "division by zero" in text
        assert "All deliveries are done or in progress" not in text

    def test_has_a_part_of_its_health_that_is_off(self, admin_client: Client):
        parts = admin_client.get(OVERVIEW).context["overview"].health

        (handlers,) = [one for one in parts if one.part == "handlers"]
        assert (handlers.is_on, handlers.text) == (False, "1 is failing: tests.award_points")

    def test_has_no_failing_part_after_success(self, admin_client: Client):
        Delivery.objects.update(state="done", settled_at=timezone.now())

        text = text_of(admin_client, OVERVIEW)

        assert "failing: " not in text
        assert "none is failing" in text

    def test_hides_the_exception_from_users_who_may_not_see_failures(self, db: None):
        client = client_with("view_minute")

        text = text_of(client, OVERVIEW)

        assert "failing: an exception in tests.award_points, 2 deliveries" in text
        assert "ZeroDivision" not in text
        assert "division by zero" not in text


class TestThePageOfFailures:
    def test_shows_the_group_with_its_facts(self, admin_client: Client):
        minute = timezone.now().replace(second=0, microsecond=0) - timedelta(hours=1)
        Minute.objects.create(handler="tests.award_points", minute=minute, done=1)

        text = text_of(admin_client, FAILURES)

        assert SENTENCE.search(text)
        assert "division by zero" in text
        assert "Last success of the handler:" in text
        assert "Release: 1.4.2." in text
        assert "?state=pending&amp;handler=tests.award_points" in text

    def test_retries_the_group_now(self, admin_client: Client):
        (group,) = failing_groups()
        form = {"group": "1", "state": "pending", "action": "retry", "handler": group.handler}
        form |= {"exception": group.exception, "place": group.place}

        asked = admin_client.post(ACT, form).content.decode()
        admin_client.post(ACT, {**form, "reason": "the divisor is corrected", "rate": "500"})

        assert "tests.award_points, pending: 2" in asked
        assert Operation.objects.get().touched == 2
        assert Delivery.objects.filter(due_at__lte=timezone.now()).count() == 2

    def test_pauses_the_handler(self, admin_client: Client):
        text = text_of(admin_client, FAILURES)
        row = Subscription.objects.get()
        assert f'name="_selected_action" value="{row.pk}"' in text

        form = {"action": "pause", "to_handlers": "1", "_selected_action": str(row.pk)}
        url = reverse("admin:outbox_subscription_changelist")
        admin_client.post(url, {**form, "reason": "the divisor is zero"})

        row.refresh_from_db()
        assert row.paused_at is not None

    def test_has_no_button_without_the_permission(self):
        text = text_of(client_with("view_delivery"), FAILURES)

        assert SENTENCE.search(text)
        assert 'name="action"' not in text
        assert "_selected_action" not in text

    def test_can_be_filtered(self, admin_client: Client):
        assert "failing: " not in text_of(admin_client, f"{FAILURES}?handler=tests.other")
        assert SENTENCE.search(text_of(admin_client, f"{FAILURES}?exception=ZeroDivisionError"))


class TestTheDoctor:
    def found(self, **options: Any) -> tuple[str, str]:
        found = [one for one in examine_without_broker(**options) if "failing:" in one.text]
        (finding,) = found
        return finding.severity, finding.text

    def test_warns_with_the_exception(self):
        severity, text = self.found()

        assert severity == "warning"
        assert SENTENCE.search(text)
        assert "division by zero" in text

    def test_reports_an_error_after_a_quarter_of_an_hour_without_a_success(self):
        self.fail_since(timedelta(minutes=16))

        assert self.found()[0] == "error"

    def test_warns_only_while_other_deliveries_succeed(self):
        self.fail_since(timedelta(minutes=16))
        minute = timezone.now().replace(second=0, microsecond=0)
        Minute.objects.create(handler="tests.award_points", minute=minute, done=1)

        assert self.found()[0] == "warning"

    def test_hides_the_exception_on_the_page_of_users_who_may_not_see_it(self):
        text = text_of(client_with("view_minute"), CHECKS)

        assert "failing: an exception in tests.award_points" in text
        assert "ZeroDivision" not in text

    def fail_since(self, age: timedelta) -> None:
        Attempt.objects.update(ended_at=timezone.now() - age)


class TestTheMetrics:
    def test_count_failing_deliveries_by_handler(self):
        handler = ("tests.award_points",)

        assert gauge("outbox_failing") == {handler: 2}
        assert gauge("outbox_failing_seconds")[handler] > 0

    def test_are_zero_after_success(self):
        Delivery.objects.update(state="done", settled_at=timezone.now())

        assert set(gauge("outbox_failing").values()) == {0}
        assert set(gauge("outbox_failing_seconds").values()) == {0}


class TestAStoredAttempt:
    def test_has_the_release_of_its_process(self):
        assert set(Attempt.objects.values_list("release", flat=True)) == {"1.4.2"}
