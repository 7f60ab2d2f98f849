"""A relay whose passes fail is unhealthy, with the reason, until a pass succeeds."""

from __future__ import annotations

from io import StringIO

import pytest
from django.core.management import call_command
from django.db import OperationalError
from django.utils import timezone

from outbox import doctor
from outbox.admin.overview import Overview
from outbox.alerts import problems
from outbox.alerts.configuration import LIMITS
from outbox.alerts.dead_man import silent_parts
from outbox.deliveries import heartbeat
from outbox.metrics import families
from outbox.models import Heartbeat
from outbox.monitor.health import PartHealth, health_of_parts
from outbox.monitor.light import light
from outbox.relay import loop, passes
from outbox.relay.passes import Plan
from tests.outbox.relays import relay_loop

pytestmark = pytest.mark.django_db(transaction=True)

REASON = "ValueError: no plan for ***"
UNPLANNED = ValueError("no plan\nfor ann@example.com")
LOCKED = OperationalError("database is locked")
TEXT = f"every pass of relay@host fails: {REASON}"


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """Act as a process that has written no heartbeat yet."""
    monkeypatch.setattr(heartbeat, "_written", {})
    monkeypatch.setattr(heartbeat, "_started", {})


class Relay:
    """A loop whose passes fail or succeed, one call for each, without a thread."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, name: str = "relay@host") -> None:
        self._loop = relay_loop(name)
        self._patch = monkeypatch

    def run(self, *, fails: bool = True, error: Exception = UNPLANNED) -> None:
        def relay(**_options: object) -> int:
            if fails:
                raise error
            return 0

        self._patch.setattr(loop, "relay", relay)
        heartbeat._written.clear()
        self._loop._relay(is_nudged=False)
        self._loop._beat()


@pytest.fixture
def relay(monkeypatch: pytest.MonkeyPatch) -> Relay:
    return Relay(monkeypatch)


def part(*, has_failures: bool = True) -> PartHealth:
    return next(one for one in health_of_parts(has_failures=has_failures) if one.part == "relay")


def overview_text(*, has_failures: bool) -> str:
    page = Overview(now=timezone.now(), has_failures=has_failures)
    return f"{[one.text for one in page.health]} {page.advice.text}"


class TestARelayThatFailsToReadTheBacklog:
    def test_stays_unhealthy_although_passes_after_nudges_succeed(
        self, monkeypatch: pytest.MonkeyPatch
    ):
        """Seen to fail: steady nudges hid that lapsed and delayed work was never found."""
        seen: list[bool] = []

        def relay_pass(*, is_nudged: bool, **_options: object) -> Plan:
            heartbeat._written.clear()
            if is_nudged:
                return Plan()
            if Heartbeat.objects.exists():
                seen.append(part().is_on)
            raise UNPLANNED

        monkeypatch.setattr(passes, "relay_pass", relay_pass)
        running = relay_loop()
        running._relay(is_nudged=False)
        running._beat()

        running._relay(is_nudged=True)

        assert seen == [False]


class TestATransientErrorOfTheDatabase:
    def test_is_not_reported_if_the_next_pass_succeeds(self, relay: Relay):
        """Seen to fail: one deadlock turned the light red and stopped the ping."""
        relay.run(error=LOCKED)
        assert part().is_on
        relay.run(fails=False)
        relay.run(error=LOCKED)

        assert part().is_on

    def test_is_reported_from_the_second_failed_pass_in_a_row(self, relay: Relay):
        relay.run(error=LOCKED)
        relay.run(error=LOCKED)

        assert part().text.endswith("fails: OperationalError: database is locked")

    def test_is_reported_after_another_error(self, relay: Relay):
        relay.run(error=UNPLANNED)
        relay.run(error=LOCKED)

        assert not part().is_on


class TestARelayWhosePassesFail:
    def test_is_unhealthy_with_the_masked_reason(self, relay: Relay):
        """Seen to fail with a heartbeat that says only that the process runs."""
        relay.run(fails=True)

        assert (part().is_on, part().text) == (False, TEXT)

    def test_is_healthy_after_a_pass_that_succeeds(self, relay: Relay):
        relay.run(fails=True)
        relay.run(fails=False)

        assert part().is_on

    def test_is_unhealthy_beside_another_one_that_works(
        self, relay: Relay, monkeypatch: pytest.MonkeyPatch
    ):
        relay.run(fails=True)
        Relay(monkeypatch, "other@host").run(fails=False)

        assert (part().is_on, part().text) == (False, TEXT)

    def test_is_forgotten_when_its_process_has_ended(self, relay: Relay):
        relay.run(fails=True)
        Heartbeat.objects.update(seen_at=timezone.now() - heartbeat.stale_after())

        assert part().text.startswith("silent for")

    def test_is_shown_on_the_overview(self, relay: Relay):
        relay.run(fails=True)

        assert overview_text(has_failures=True).count(REASON) == 2

    def test_has_no_reason_there_for_users_who_may_not_see_failures(self, relay: Relay):
        relay.run(fails=True)

        assert "every pass of relay@host fails" in overview_text(has_failures=False)
        assert REASON not in overview_text(has_failures=False)

    def test_is_an_error_of_the_doctor(self, relay: Relay):
        relay.run(fails=True)

        [found] = [one for one in doctor.examine_without_broker() if one.part == "relay"]

        assert found.severity == "error"
        assert TEXT in found.text

    def test_is_named_by_status(self, relay: Relay):
        relay.run(fails=True)
        out = StringIO()

        call_command("outbox", "status", stdout=out, no_color=True)

        assert f"relay: {TEXT}" in out.getvalue()

    def test_is_counted_by_the_metrics(self, relay: Relay, monkeypatch: pytest.MonkeyPatch):
        relay.run(fails=True)
        Relay(monkeypatch, "other@host").run(fails=False)
        Relay(monkeypatch, "third@host").run(fails=True)
        Heartbeat.objects.filter(name="third@host").update(
            seen_at=timezone.now() - heartbeat.stale_after()
        )

        found = {one.name: one.samples for one in families(only=["outbox_relays_failing"])}

        assert found == {"outbox_relays_failing": [((), 1)]}

    def test_turns_the_light_red(self, relay: Relay):
        relay.run(fails=True)
        for kind in ("beat", "broker"):
            heartbeat.beat(kind, "beat")
        heartbeat.beat("worker", "w", queues=["outbox"])

        assert light().text == "relay failing"

    def test_is_a_problem_of_the_trigger_silent(self, relay: Relay):
        relay.run(fails=True)

        found = problems.find({"silent": LIMITS["silent"]}, using="default")

        assert found.problems["silent:relay:"].text == (
            f"The relay does not work: {TEXT}. Run `manage.py outbox doctor`."
        )

    def test_stops_the_ping_of_the_dead_man(self, relay: Relay):
        relay.run(fails=True)

        assert "relay" in silent_parts(using="default")

    def test_does_not_stop_the_ping_while_another_one_works(
        self, relay: Relay, monkeypatch: pytest.MonkeyPatch
    ):
        Relay(monkeypatch, "other@host").run(fails=False)
        relay.run(fails=True)

        assert "relay" not in silent_parts(using="default")
