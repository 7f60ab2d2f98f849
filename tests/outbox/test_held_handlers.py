"""An unfinished backfill holds its ordered handler, so a user cannot resume it by mistake."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from outbox import operations
from outbox.admin.advice import advice
from outbox.deliveries import failpoints
from outbox.doctor import owed
from outbox.formatting import format_time
from outbox.models import Delivery, Operation, Subscription
from outbox.monitor.diagnosis import why
from outbox.monitor.status import status
from outbox.operations import holds, progress
from outbox.testing import Outbox
from tests.outbox.command import outbox_command, refused
from tests.outbox.drive import Died, die, run_pass
from tests.outbox.ordered import Listener, emit_numbers
from tests.threads import in_thread, wait_until_blocked

pytestmark = pytest.mark.usefixtures("own_registry", "no_nudge")

HANDLER = "tests.note"
CHOICE = operations.Choice(handler=HANDLER)
SUBSCRIPTIONS = reverse("admin:outbox_subscription_changelist")
HANDLERS = reverse("admin:outbox_subscription_handlers")


def the_handler() -> Subscription:
    return Subscription.objects.get()


def the_backfill() -> Operation:
    return Operation.objects.get(action="backfill")


def held_clause() -> str:
    operation = the_backfill()
    return (
        f"held by its backfill, operation {operation.pk}, last heartbeat "
        f"{format_time(operation.seen_at)}, until the backfill is complete."
    )


def held_text() -> str:
    operation = the_backfill()
    return (
        f"{HANDLER} is {held_clause()} Do not resume it. If the process of the backfill was "
        f"killed: `manage.py outbox continue {operation.pk}`."
    )


def as_html(text: str) -> str:
    parts = text.split("`")
    return "".join(f"<code>{p}</code>" if n % 2 else p for n, p in enumerate(parts))


def begun(listener: Listener) -> None:
    """Kill the backfill of events 1 and 2 after its first step, and emit event 3."""
    emit_numbers(1, 2)
    run_pass()
    listener.subscribe()
    with pytest.raises(Died), failpoints.armed(failpoints.AFTER_STEP, die):
        operations.backfill(CHOICE, by="ann", reason="a test")
    emit_numbers(3)
    run_pass()


@pytest.fixture
def listener(db: None, monkeypatch: pytest.MonkeyPatch) -> Listener:
    monkeypatch.setattr(progress, "_SLICE", 1)
    return Listener()


@pytest.fixture
def held(listener: Listener) -> Listener:
    begun(listener)
    return listener


def handled(listener: Listener) -> list[int]:
    return [number for _key, number in listener.received]


def parked() -> Delivery:
    return Delivery.objects.select_related("subscription").filter(state="parked").latest("pk")


class TestResuming:
    def test_is_refused_and_changes_nothing(self, held: Listener):
        """Failed: 3 was handled before 2 was owed."""
        with pytest.raises(operations.HeldByBackfill) as caught:
            operations.resume(HANDLER, by="bob")
        Outbox().deliver_all()

        assert str(caught.value).startswith(f"{HANDLER} was not resumed. {held_text()}")
        assert f"`manage.py outbox continue {the_backfill().pk} --give-up`" in str(caught.value)
        assert "--force" in str(caught.value)
        assert the_handler().paused_by == f"backfill:{the_backfill().pk}"
        assert handled(held) == []
        assert not Operation.objects.filter(action="resume").exists()

    def test_is_also_refused_if_a_person_has_taken_over_the_pause(self, held: Listener):
        operations.pause(HANDLER, by="bob", reason="the bank is closed")

        with pytest.raises(operations.HeldByBackfill):
            operations.resume(HANDLER, by="bob")

        assert the_handler().paused_by == "bob"

    def test_of_a_handler_that_was_ended_meanwhile_leaves_it_ended(self, held: Listener):
        operations.end(HANDLER, by="bob", reason="not needed")
        since = the_handler().since

        with pytest.raises(operations.HeldByBackfill):
            operations.resume(HANDLER, by="bob")

        assert (the_handler().active, the_handler().since) == (False, since)

    def test_is_possible_by_force_and_stops_the_backfill(self, held: Listener):
        assert operations.resume(HANDLER, by="bob", force=True) == 1

        with pytest.raises(operations.CannotBackfill, match="was resumed before"):
            operations.continue_operation(the_backfill().pk, by="ann")
        assert the_handler().paused_at is None

    def test_is_possible_when_the_backfill_is_complete(self, held: Listener):
        operations.pause(HANDLER, by="bob", reason="the bank is closed")
        operations.continue_operation(the_backfill().pk, by="ann")

        assert operations.resume(HANDLER, by="bob") == 1
        Outbox().deliver_all()

        assert handled(held) == [1, 2, 3]

    def test_is_possible_if_an_older_release_left_the_pause_of_a_complete_backfill(
        self, held: Listener
    ):
        operations.continue_operation(the_backfill().pk, by="ann")
        left_by = f"backfill:{the_backfill().pk}"
        Subscription.objects.update(paused_at=timezone.now(), paused_by=left_by)

        assert operations.resume(HANDLER, by="bob") == 1

    @pytest.mark.postgresql
    @pytest.mark.django_db(transaction=True)
    def test_is_refused_if_a_backfill_takes_the_pause_over_at_the_same_time(
        self, listener: Listener, monkeypatch: pytest.MonkeyPatch
    ):
        """Failed where the rows were not locked before the look: the backfill was broken into."""
        emit_numbers(1, 2)
        run_pass()
        listener.subscribe()
        left_by_an_older_release = {"paused_at": timezone.now(), "paused_by": "backfill:0"}
        Subscription.objects.update(**left_by_an_older_release)
        resumptions: list[Callable[[], object]] = []
        begin: Any = holds.Hold.begin

        def begin_and_wait(self: holds.Hold, operation: Operation) -> None:
            begin(self, operation)
            resumptions.append(in_thread(lambda: operations.resume(HANDLER, by="bob")))
            wait_until_blocked(1)

        monkeypatch.setattr(holds.Hold, "begin", begin_and_wait)
        with pytest.raises(Died), failpoints.armed(failpoints.AFTER_STEP, die):
            operations.backfill(CHOICE, by="ann", reason="a test")
        [resumption] = resumptions

        assert isinstance(resumption(), operations.HeldByBackfill)
        assert the_handler().paused_by == f"backfill:{the_backfill().pk}"


class TestTheCommand:
    def test_refuses_to_resume_it(self, held: Listener):
        assert held_text() in refused("resume", HANDLER)
        assert the_handler().paused_at is not None

    def test_refuses_the_dry_run_with_the_same_error(self, held: Listener):
        assert refused("resume", HANDLER, "--dry-run") == refused("resume", HANDLER)

    def test_resumes_it_by_force_and_names_the_next_step(self, held: Listener):
        said = outbox_command("resume", HANDLER, "--force", "--reason", "no key matters")

        assert said.startswith(f"{HANDLER} is resumed. ")
        assert f"`manage.py outbox continue {the_backfill().pk} --give-up`" in said
        assert the_handler().paused_at is None

    def test_shows_by_force_the_deliveries_that_would_be_sent(self, held: Listener):
        said = outbox_command("resume", HANDLER, "--force", "--dry-run")

        assert said.endswith("would change. Nothing was changed.\n")
        assert the_handler().paused_at is not None

    def test_explains_why_a_delivery_waits(self, held: Listener):
        assert why(parked()) == f"Parked: {held_text()}"

    def test_names_the_user_who_has_taken_over_the_pause(self, held: Listener):
        operations.pause(HANDLER, by="bob", reason="the bank is closed.")

        assert why(parked()) == (
            f"Parked: {HANDLER} is paused by bob, and {held_clause()[:-1]} (the bank is closed). "
            + held_text().partition(". ")[2]
        )

    def test_shows_it_in_status(self, held: Listener):
        said = outbox_command("status")
        found = json.loads(outbox_command("status", "--json"))["handlers"]

        assert f"{HANDLER} is {held_clause()[:-1]}" in said
        assert [one["backfill"] for one in found] == [the_backfill().pk]
        seen_at = the_backfill().seen_at.isoformat(timespec="milliseconds")
        assert found[0]["backfill_seen_at"].startswith(seen_at[:-6])

    def test_also_shows_it_in_status_if_a_person_has_taken_over_the_pause(self, held: Listener):
        operations.pause(HANDLER, by="bob", reason="the bank is closed")

        said = outbox_command("status")

        assert f"{HANDLER} is paused by bob, and {held_clause()[:-1]} (the bank is closed)" in said

    def test_shows_it_in_status_by_its_number_too(self, held: Listener):
        Subscription.objects.update(paused_at=timezone.now())

        assert held_clause()[:-1] in outbox_command("status")
        assert why(parked()) == f"Parked: {held_text()}"

    def test_names_the_backfill_when_a_user_pauses_the_handler(self, held: Listener):
        said = outbox_command("pause", HANDLER, "--reason", "the bank is closed")

        assert said == f"{HANDLER} is paused. {held_text()}\n"

    def test_names_the_first_backfill_if_a_second_one_would_only_wait(self, held: Listener):
        operations.pause(HANDLER, by="bob", reason="the bank is closed")

        said = refused("backfill", HANDLER, "--reason", "again")

        assert f"and {held_clause()[:-1]}" in said
        assert "outbox resume" not in said

    def test_stores_the_operation_in_the_note_of_a_parked_delivery(self, held: Listener):
        number = the_backfill().pk

        assert parked().note == f"its handler is held by its backfill, operation {number}"


class TestTheDoctor:
    def test_names_the_handler_that_an_unfinished_backfill_holds(self, held: Listener):
        Operation.objects.update(seen_at=timezone.now() - 2 * operations.ABANDONED_AFTER)

        [found] = [one for one in owed.examine(using="default") if "unfinished" in one.text]

        assert f"It holds {HANDLER}" in found.text
        assert format_time(the_backfill().seen_at) in found.text


class TestTheAdmin:
    def resume(self, client: Client) -> str:
        form = {"_selected_action": [the_handler().pk], "action": "resume"}
        response = client.post(SUBSCRIPTIONS, form, follow=True)
        return response.content.decode()

    def test_refuses_to_resume_it(self, held: Listener, admin_client: Client):
        said = self.resume(admin_client)

        assert "was not resumed" in said
        assert f"continue {the_backfill().pk}" in said
        assert the_handler().paused_at is not None
        assert not LogEntry.objects.exists()

    def test_has_no_button_to_resume_it_on_the_page_of_handlers(
        self, held: Listener, admin_client: Client
    ):
        page = admin_client.get(HANDLERS).content.decode()

        assert f'aria-label="Resume {HANDLER}"' not in page
        assert f'aria-label="Pause {HANDLER}"' in page
        assert as_html(held_text()) in page

    def test_has_no_button_if_a_person_has_also_paused_it(
        self, held: Listener, admin_client: Client
    ):
        operations.pause(HANDLER, by="bob", reason="the bank is closed")

        page = admin_client.get(HANDLERS).content.decode()

        assert f'aria-label="Resume {HANDLER}"' not in page
        assert f'aria-label="Pause {HANDLER}"' not in page
        assert "the bank is closed" in page
        assert f"and {held_clause()[:-1]}" in page

    def test_has_no_button_on_the_page_of_the_subscription(
        self, held: Listener, admin_client: Client
    ):
        url = reverse("admin:outbox_subscription_change", args=[the_handler().pk])

        page = admin_client.get(url).content.decode()

        assert "Resume the handler" not in page
        assert as_html(held_text()) in page

    def test_shows_it_in_the_list_of_subscriptions(self, held: Listener, admin_client: Client):
        assert as_html(held_text()) in admin_client.get(SUBSCRIPTIONS).content.decode()

    def test_advises_to_continue_the_backfill(self, held: Listener):
        found = advice(status(), [], [], has_failures=True)

        assert found.text == held_text()
        assert found.url == reverse("admin:outbox_operation_change", args=[the_backfill().pk])


class TestTheLog:
    def test_records_that_a_forced_resumption_interrupted_the_backfill(
        self, held: Listener, caplog: pytest.LogCaptureFixture
    ):
        with caplog.at_level(logging.WARNING, logger="outbox.operations"):
            operations.resume(HANDLER, by="bob", force=True)

        assert f"operation {the_backfill().pk}" in caplog.text


class TestACtrlC:
    def test_in_a_backfill_names_the_paused_handler_and_the_next_step(self, listener: Listener):
        """Failed: a traceback."""
        emit_numbers(1, 2)
        run_pass()
        listener.subscribe()

        def interrupt() -> None:
            raise KeyboardInterrupt

        with failpoints.armed(failpoints.AFTER_STEP, interrupt):
            said = refused("backfill", HANDLER, "--reason", "a test")

        number = the_backfill().pk
        assert f"`manage.py outbox continue {number}`" in said
        assert said == (
            f"Interrupted: operation {number} (backfill) is not finished; 1 of 2 touched. "
            f"{HANDLER} stays paused until the operation is finished. "
            f"{operations.next_step(the_backfill())}"
        )
        assert the_handler().paused_at is not None

    def test_in_another_command_names_the_log(
        self, listener: Listener, monkeypatch: pytest.MonkeyPatch
    ):
        """Failed: a traceback."""

        def interrupt(**_options: Any) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr("outbox.retention.prune", interrupt)

        assert "`manage.py outbox log`" in refused("prune", "--older-than", "30d")


class TestABackfillThatIsRefused:
    """Failed: it named three reasons, of which one applied."""

    @pytest.fixture(autouse=True)
    def _handler(self, own_registry: None, listener: Listener) -> None:
        listener.subscribe()

    def refusal(self) -> str:
        with pytest.raises(operations.CannotBackfill) as caught:
            operations.backfill(CHOICE, by="ann", reason="a test")
        return str(caught.value)

    def test_names_the_user_who_paused_the_handler_and_the_reason(self):
        operations.pause(HANDLER, by="bob", reason="the bank is closed")
        paused_at = the_handler().paused_at

        assert paused_at is not None
        assert self.refusal() == (
            f"{HANDLER} cannot be backfilled, because its deliveries would not be sent: {HANDLER} "
            f"is paused by bob since {format_time(paused_at)} (the bank is closed). To resume it: "
            f"`manage.py outbox resume {HANDLER}`."
        )

    def test_names_a_subscription_that_has_ended(self):
        operations.end(HANDLER, by="bob", reason="not needed")

        assert self.refusal().endswith(
            "the subscription of tests.note to tests.Walked has ended. To make it active again: "
            "`manage.py outbox resume tests.note`."
        )

    def test_names_code_that_has_no_such_handler(self):
        Subscription.objects.update(known=False)

        assert self.refusal().endswith(
            "the code that was last migrated does not subscribe tests.note to tests.Walked. Deploy "
            "and migrate a release that does, or name tests.note in the `formerly=` of its "
            "successor. Or end it: `manage.py outbox end tests.note --event tests.Walked --reason "
            "TEXT`."
        )


class TestAnUnfinishedOperation:
    def test_of_the_same_replay_is_named_with_its_last_heartbeat(self, held: Listener):
        now = timezone.now()
        other = Operation.objects.create(
            action="replay", choice=CHOICE.as_json(), by="cli:ann", started_at=now, seen_at=now
        )

        with pytest.raises(operations.StillRunning, match=f"last heartbeat {format_time(now)}"):
            operations.replay(CHOICE, by="bob", reason="a test")

        assert other.state == "running"

    def test_of_the_handler_is_named_with_its_last_heartbeat(self, held: Listener):
        seen = format_time(the_backfill().seen_at)
        other = operations.Choice(handler=HANDLER, event="tests.Walked")

        with pytest.raises(operations.CannotBackfill, match=f"last heartbeat {seen}"):
            operations.backfill(other, by="bob", reason="a test")

    def test_of_a_renamed_handler_is_finished_by_continue(self, held: Listener):
        """Failed: no subscription had the former name, so nothing ended the pause."""
        Subscription.objects.update(handler="tests.renamed")

        outbox_command("continue", str(the_backfill().pk))

        assert (the_backfill().state, the_handler().paused_at) == ("finished", None)

    def test_whose_handler_is_removed_makes_continue_fail_with_an_error(self, held: Listener):
        """Failed: a traceback of `UnknownHandler`."""
        operations.pause(HANDLER, by="bob", reason="a test")
        Subscription.objects.update(handler="tests.renamed")

        assert "No subscription has the handler tests.note" in refused(
            "continue", str(the_backfill().pk)
        )
