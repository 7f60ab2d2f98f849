"""Operations are previewed, recorded, and continued where they were killed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.core.management.base import CommandError
from django.db import connection
from django.utils import timezone
from psycopg import sql
from pytest_django import Settings

from outbox import DomainEvent, Receipt, emit, formatting, operations, subscribe, subscriptions
from outbox.deliveries import failpoints
from outbox.deliveries.sync import sync_subscriptions
from outbox.doctor import owed
from outbox.management.cli.filters import parse_time
from outbox.models import Attempt, Delivery, Event, Operation, Subscription
from outbox.operations import progress
from outbox.operations.backfills import Backfill
from outbox.operations.dry_run import CannotDryRun, DryRun, dry_run
from outbox.testing import Outbox
from tests.outbox.command import outbox_command, refused
from tests.outbox.drive import emit_parcels, run_pass, states
from tests.outbox.project.freight.models import Parcel

pytestmark = pytest.mark.usefixtures("own_registry", "no_nudge")

State = Delivery.State


class Weighed(DomainEvent, key="parcel_id"):
    """A parcel was weighed."""

    parcel_id: UUID


class Killed(BaseException):
    """The process is gone; like a kill, it passes whatever catches Exception."""


@contextmanager
def killed_at(point: str, *, time: int) -> Iterator[None]:
    """Die when the point is reached for the n-th time."""
    left = [time]

    def die() -> None:
        left[0] -= 1
        if not left[0]:
            raise Killed

    with failpoints.armed(point, die), pytest.raises(Killed):
        yield


@pytest.fixture
def runs(own_registry: None) -> list[UUID]:
    """The events that `tests.invoice` handled, in order; it fails where the table says so."""
    seen: list[UUID] = []

    @subscribe("parcels.ParcelSent")
    def invoice(event_id: UUID) -> None:
        seen.append(event_id)

    return seen


def bill() -> None: ...


def deliveries(*states: str) -> list[Delivery]:
    """Fan out, and give the deliveries these states; without the relay's hand on any."""
    emit_parcels(len(states))
    run_pass()
    rows = list(Delivery.objects.order_by("pk"))
    for row, state in zip(rows, states, strict=True):
        settled = timezone.now() if state in Delivery.SETTLED else None
        due = timezone.now() + timedelta(hours=1)
        Delivery.objects.filter(pk=row.pk).update(
            state=state, attempts=1, due_at=due, settled_at=settled, worker="w1"
        )
    return rows


EACH = ("pending", "sent", "dead", "parked", "done", "discarded")


@pytest.mark.usefixtures("runs")
class TestADryRun:
    @pytest.mark.parametrize("action", ["retry", "discard", "replay"])
    def test_counts_the_rows_that_the_operation_then_changes(self, action: str):
        deliveries(*EACH, *EACH)
        choice = operations.Choice(handler="tests.invoice")

        before = states()
        previewed = operations.preview(action, choice)
        same = states()
        done = getattr(operations, action)(choice, by="cli:ann", reason="a test")

        assert before == same
        assert previewed.total == done.touched == done.expected > 0
        changed = [a for a, b in zip(before, states(), strict=True) if a != b]
        counted = {state: number for _handler, state, number in previewed.counts}
        # What waits for its next attempt is due now: retried, and pending as before.
        counted.pop("pending", None) if action == "retry" else None
        assert counted == {state: changed.count(state) for state in set(changed)}

    def test_shows_examples_with_their_time_the_oldest_first(self):
        """Seen to fail with a time without its zone."""
        rows = deliveries("dead", "dead")

        previewed = operations.preview("retry", operations.Choice())

        assert [line.split(":")[0] for line in previewed.examples] == [
            f"delivery {row.pk} of tests.invoice" for row in rows
        ]
        assert previewed.examples[0].endswith(
            f", {formatting.format_time(rows[0].event.emitted_at)}"
        )

    def test_of_a_backfill_counts_the_deliveries_that_it_then_creates(self):
        emit_parcels(3)
        Delivery.objects.all().delete()
        Event.objects.update(fanned_out_at=timezone.now())
        choice = operations.Choice(handler="tests.invoice")

        previewed = operations.preview("backfill", choice)
        done = operations.backfill(choice, by="cli:ann", reason="a test", rate=None)

        assert previewed.total == done.touched == Delivery.objects.count() == 3

    def test_of_an_end_counts_the_deliveries_that_it_then_discards(self):
        deliveries(*EACH)

        previewed = operations.preview("end", operations.Choice(handler="tests.invoice"))
        done = operations.end("tests.invoice", by="cli:ann", reason="a test")

        assert previewed.total == done.touched == 4

    @pytest.mark.parametrize(
        ("choice", "number"),
        [
            ({"ids": ()}, 0),
            ({"states": ("dead",)}, 2),
            ({"handler": "tests.other"}, 0),
            ({"event": "parcels.ParcelSent"}, 3),
            ({"event": "parcels.ParcelLost"}, 0),
            ({"exception": "KeyError"}, 1),
            ({"exception": "KeyError", "place": "shelf:7 take"}, 1),
            ({"exception": "KeyError", "place": "shelf:8 take"}, 0),
            ({"since": timedelta(hours=-1)}, 3),
            ({"until": timedelta(hours=-1)}, 0),
            ({"as_of": timedelta(hours=2)}, 3),
            ({"as_of": timedelta()}, 1),  # the dead ones died in an hour, by `deliveries`
        ],
    )
    def test_counts_only_the_chosen_deliveries(self, choice: dict[str, Any], number: int):
        dead, *_ = deliveries("dead", "dead", "parked", "done")
        for exception in ("ValueError", "KeyError"):  # the latest counts
            Attempt.objects.create(
                delivery=dead, number=1, started_at=timezone.now(), ended_at=timezone.now(),
                outcome="failed", exception=exception, place="shelf:7 take",
            )  # fmt: skip
        moments = {"since", "until", "as_of"} & choice.keys()
        given_ = choice | {name: timezone.now() + choice[name] for name in moments}
        meant = operations.Choice(**given_)

        assert operations.preview("discard", meant).total == number
        assert operations.Choice.from_json(meant.as_json()) == meant

    @pytest.mark.parametrize(("hours", "number"), [(-1, 0), (1, 2)])
    def test_leaves_out_what_was_settled_after_the_time_of_the_choice(self, hours, number):
        deliveries("done", "discarded", "dead")
        choice = operations.Choice(as_of=timezone.now() + timedelta(hours=hours))

        assert operations.preview("replay", choice).total == number


class TestAnOperationThatIsKilled:
    @pytest.fixture(autouse=True)
    def _small_steps(self, monkeypatch: pytest.MonkeyPatch, runs: list[UUID]) -> None:
        monkeypatch.setattr(progress, "_SLICE", 2)

    @pytest.mark.parametrize("point", [failpoints.IN_STEP, failpoints.AFTER_STEP])
    def test_continues_at_its_cursor_and_replays_nothing_twice(self, point: str, runs: list[UUID]):
        """With the cursor saved outside of the step's transaction: some handled twice."""
        outbox = Outbox()
        events = emit_parcels(7)
        outbox.deliver_all()
        choice = operations.Choice(handler="tests.invoice")
        runs.clear()

        with killed_at(point, time=2):
            operations.replay(choice, by="cli:ann", reason="a test", rate=None)
        outbox.deliver_all()  # what was replayed is done again, and must not be taken for new
        first = len(runs)
        done = operations.continue_operation(Operation.objects.get().pk, by="cli:bob")
        outbox.deliver_all()

        assert 0 < first < 7
        assert sorted(runs) == sorted(event.id for event in events)
        assert (done.touched, done.state, done.by) == (7, "finished", "cli:ann")
        assert Operation.objects.count() == 1

    def test_is_carried_on_by_its_number(self, runs: list[UUID]):
        deliveries(*["dead"] * 5)

        with killed_at(failpoints.AFTER_STEP, time=1):
            operations.discard(operations.Choice(states=("dead",)), by="cli:ann", reason="a test")
        half = states()
        said = outbox_command("continue", str(Operation.objects.get().pk))

        assert half.count("discarded") == 2
        assert set(states()) == {"discarded"}
        assert "is finished: 5 touched in total. Rows that were changed before the inter" in said

    def test_is_continued_if_a_deploy_has_renamed_its_handler(self):
        """Failed: the old code ended it as finished, with the rest undone."""
        deliveries(*["dead"] * 5)

        def rename(*_args: Any) -> None:
            Subscription.objects.update(handler="tests.bill")

        with pytest.raises(operations.UnknownHandler, match=r"tests\.invoice"):
            operations.retry(
                operations.Choice(handler="tests.invoice"), by="cli:ann", report=rename
            )
        half = states()
        [operation] = Operation.objects.all()
        subscriptions.registry.clear()
        subscribe("parcels.ParcelSent", name="tests.bill", formerly=["tests.invoice"])(bill)
        done = operations.continue_operation(operation.pk, by="cli:bob")

        assert (half.count("pending"), operation.state) == (2, "running")
        assert states() == ["pending"] * 5
        assert (done.touched, done.state) == (5, "finished")

    def test_makes_no_delivery_twice_in_a_backfill(self, runs: list[UUID]):
        emit_parcels(5)
        Event.objects.update(fanned_out_at=timezone.now())
        choice = operations.Choice(handler="tests.invoice")

        with killed_at(failpoints.IN_STEP, time=2):
            operations.backfill(choice, by="cli:ann", reason="a test", rate=None)
        half = Delivery.objects.count()
        done = operations.backfill(choice, by="cli:ann", reason="a test", rate=None)

        # In a test's transaction the killed step is rolled back, as it is for real.
        assert (half, Delivery.objects.count(), done.touched) == (2, 5, 3)

    def test_can_be_given_up(self, runs: list[UUID]):
        deliveries(*["dead"] * 5)
        with killed_at(failpoints.AFTER_STEP, time=1):
            operations.discard(operations.Choice(states=("dead",)), by="cli:ann", reason="a test")
        number = str(Operation.objects.get().pk)

        outbox_command("continue", number, "--give-up")

        with pytest.raises(CommandError, match="has ended: given up"):
            outbox_command("continue", number)
        assert states().count("dead") == 3

    @pytest.mark.usefixtures("runs")
    def test_names_the_command_that_has_to_run_again(self, monkeypatch: pytest.MonkeyPatch):
        """Prune's choice is none of deliveries. Seen to fail where it is read as one."""

        def die(**_options: Any) -> None:
            raise Killed

        monkeypatch.setattr("outbox.retention.prune", die)
        with pytest.raises(Killed):
            operations.prune(older_than=timedelta(days=30), by="cli:cron")

        with pytest.raises(CommandError, match=r"\(prune\) cannot be continued"):
            outbox_command("continue", str(Operation.objects.get().pk))
        Operation.objects.update(seen_at=timezone.now() - 2 * operations.ABANDONED_AFTER)
        [found] = [one for one in owed.examine(using="default") if "unfinished" in one.text]
        assert found.advice.startswith("Run the same `manage.py outbox prune` again.")

    def test_touches_nothing_that_came_later(self, runs: list[UUID]):
        outbox = Outbox()
        emit_parcels(3)
        outbox.deliver_all()
        with killed_at(failpoints.AFTER_STEP, time=1):
            operations.replay(operations.Choice(), by="cli:ann", reason="a test", rate=None)
        emit_parcels(3)
        outbox.deliver_all()

        done = operations.continue_operation(Operation.objects.get().pk, by="cli:ann")

        assert done.touched == 3

    def test_that_is_a_replay_is_not_begun_again(self, runs: list[UUID]):
        """Failed: the second one was taken for the rest of the first, and said it was finished."""
        outbox = Outbox()
        emit_parcels(3)
        outbox.deliver_all()
        line = ("replay", "--handler", "tests.invoice", "--reason", "wrong prices")
        with killed_at(failpoints.AFTER_STEP, time=1):
            outbox_command(*line)
        number = Operation.objects.get().pk

        said = refused(*line)
        outbox_command("continue", str(number), "--give-up")
        outbox_command(*line)

        assert f"operation {number}, by cli:" in said
        assert f"`manage.py outbox continue {number}`" in said
        assert [one.touched for one in Operation.objects.order_by("id")] == [2, 1]

    @pytest.mark.parametrize(("action", "after"), [("retry", "pending"), ("discard", "discarded")])
    def test_is_begun_again_from_the_first_row(self, action: str, after: str):
        """Failed: what was dead again was behind the cursor; "finished", and nothing was done."""
        deliveries("dead", "dead")
        choice = operations.Choice(handler="tests.invoice")
        with killed_at(failpoints.AFTER_STEP, time=1):
            getattr(operations, action)(choice, by="cli:ann", reason="a test", rate=None)
        Delivery.objects.update(state="dead", attempts=1)

        done = getattr(operations, action)(choice, by="cli:bob", reason="once more", rate=None)

        assert states() == [after, after]
        assert (done.by, done.touched, done.state) == ("cli:bob", 2, "finished")
        first = Operation.objects.order_by("id")[0]
        assert (first.by, first.touched, first.state) == ("cli:ann", 2, "given_up")

    @pytest.mark.parametrize(("action", "state"), [("discard", "dead"), ("replay", "done")])
    def test_is_the_same_one_with_another_time_of_its_confirmation(self, action: str, state: str):
        deliveries(state, state, state)
        Delivery.objects.update(due_at=timezone.now())
        act = partial(getattr(operations, action), by="cli:ann", reason="a test", rate=None)
        ids = tuple(Delivery.objects.values_list("pk", flat=True))
        with killed_at(failpoints.AFTER_STEP, time=1):
            act(operations.Choice(ids=ids, as_of=timezone.now()))
        again = operations.Choice(ids=ids, as_of=timezone.now())

        if action == "replay":
            with pytest.raises(operations.StillRunning):
                act(again)
        else:
            act(again)

        first = Operation.objects.earliest("pk")
        assert first.state == ("running" if action == "replay" else "given_up")

    def test_continues_if_its_confirmation_is_later(self):
        """Failed: what had died between the two confirmations was not discarded."""
        deliveries("dead", "dead", "dead")
        earlier, later = timezone.now(), timezone.now() + timedelta(hours=2)
        discard = partial(operations.discard, by="cli:ann", reason="a test", rate=None)
        for as_of in (later, None):
            with killed_at(failpoints.AFTER_STEP, time=1):
                discard(operations.Choice(handler="tests.invoice", as_of=as_of))

        discard(operations.Choice(handler="tests.invoice", as_of=earlier))

        found = [one.state for one in Operation.objects.order_by("pk")]
        assert found == ["given_up", "running", "finished"]

    def test_is_another_one_than_an_action_with_another_choice(self):
        rows = deliveries("dead", "dead")
        with killed_at(failpoints.AFTER_STEP, time=1):
            operations.retry(operations.Choice(ids=(rows[0].pk,)), by="cli:ann", rate=None)

        operations.retry(operations.Choice(ids=(rows[1].pk,)), by="cli:ann", rate=None)

        assert Operation.objects.order_by("id")[0].state == "running"


class TestACorrection:
    def test_discards_the_dead_delivery_whatever_else_is_unfinished(self):
        """Failed: a discard that was killed swallowed it, and both events were owed."""

        @subscribe("tests.Weighed", attempts=1)
        def invoice() -> None:
            raise KeyError("scales")

        outbox = Outbox()
        event = outbox.given("tests.Weighed", parcel_id=uuid4())
        outbox.deliver_all(raise_errors=False)
        row = Delivery.objects.get()
        with killed_at(failpoints.AFTER_STEP, time=1):
            operations.discard(
                operations.Choice(ids=(row.pk,)), by="cli:ann", reason="not wanted", rate=None
            )
        Delivery.objects.update(state="dead")

        operations.correct(row.pk, event.payload, by="cli:bob", reason="a repair")

        assert states() == ["discarded", "pending"]
        assert ": a repair (cli:bob)" in Delivery.objects.get(pk=row.pk).note
        assert Operation.objects.get(action="discard").state == "running"


class TestTheClock:
    @pytest.mark.parametrize("action", ["retry", "discard", "replay", "end"])
    def test_is_that_of_the_database_that_the_action_is_about(
        self, action: str, runs: list[UUID], monkeypatch: pytest.MonkeyPatch
    ):
        """Failed: it was that of the database to which the router sends the outbox."""
        deliveries("dead", "done")
        asked: list[str | None] = []

        def now(*, using: str | None = None) -> datetime:
            asked.append(using)
            return timezone.now()

        monkeypatch.setattr("outbox.clock.now", now)
        choice: Any = (
            "tests.invoice" if action == "end" else operations.Choice(handler="tests.invoice")
        )
        getattr(operations, action)(choice, by="cli:ann", reason="a test", using="default")

        assert set(asked) == {"default"}


class TestReplay:
    def test_runs_the_handler_again_under_a_new_token_and_keeps_the_receipt(self, runs: list[UUID]):
        outbox = Outbox()
        (event,) = emit_parcels(1)
        outbox.deliver_all()
        token = Delivery.objects.get().token

        operations.replay(operations.Choice(), by="cli:ann", reason="wrong prices")
        outbox.deliver_all()

        again = Delivery.objects.get()
        assert runs == [event.id, event.id]
        assert (again.state, again.attempts) == ("done", 1)
        assert again.token > token
        kept = Attempt.objects.get()
        assert (kept.outcome, kept.worker) == ("replayed", "test")
        assert kept.message == "done, then replayed by cli:ann: wrong prices"

    def test_includes_discarded_deliveries(self, runs: list[UUID]):
        deliveries("discarded")

        operations.replay(operations.Choice(), by="cli:ann", reason="it matters after all")
        Outbox().deliver_all()

        assert states() == ["done"]


class TestDiscard:
    def test_stores_the_reason_and_the_user(self, runs: list[UUID]):
        (row,) = deliveries("dead")

        said = outbox_command("discard", str(row.pk), "--reason", "the parcel burnt")

        assert said.startswith("1 delivery discarded.")
        assert "the parcel burnt (cli:" in Delivery.objects.get().note
        assert "the parcel burnt" in outbox_command("log")

    def test_releases_the_next_delivery_of_its_key(self):
        """Without the release the second waits for minutes, until the relay looks again."""
        handled: list[int] = []

        @subscribe("parcels.ParcelSent", ordered=True, attempts=1)
        def weigh(number: int) -> None:
            handled.append(number)
            if number == 1:
                raise KeyError("scales")

        outbox, parcel = Outbox(), uuid4()
        for number in (1, 2):
            outbox.given("parcels.ParcelSent", parcel_id=parcel, number=number)
        outbox.deliver_all(raise_errors=False)
        assert states() == ["dead", "blocked"]

        operations.discard(operations.Choice(states=("dead",)), by="cli:ann", reason="burnt")
        outbox.deliver_all()

        assert handled == [1, 2]
        assert states() == ["discarded", "done"]

    def test_of_an_event_without_deliveries_touches_none_of_the_handlers_others(
        self, runs: list[UUID]
    ):
        """It waits for fan-out, say. Seen to fail where no ids stand for all."""
        deliveries("dead")
        (waiting,) = emit_parcels(1)

        said = refused(
            "discard", str(waiting.id), "--handler", "tests.invoice", "--reason", "it burnt"
        )

        assert "Nothing to discard" in said
        assert states() == ["dead"]

    def test_requires_a_reason(self, runs: list[UUID]):
        (row,) = deliveries("dead")

        with pytest.raises(CommandError, match="No reason given"):
            outbox_command("discard", str(row.pk))

        assert states() == ["dead"]


class TestBackfill:
    def test_gives_a_new_handler_the_events_from_before_its_subscription(self, runs: list[UUID]):
        outbox = Outbox()
        events = emit_parcels(3)
        outbox.deliver_all()
        handled: list[UUID] = []

        @subscribe("parcels.ParcelSent")
        def count(event_id: UUID) -> None:
            handled.append(event_id)

        sync_subscriptions()
        operations.backfill(
            operations.Choice(handler="tests.count"), by="cli:ann", reason="a new handler"
        )
        outbox.deliver_all()

        assert handled == [event.id for event in events]
        assert runs == handled  # the other handler ran once for each

    def test_waits_while_half_of_the_window_is_used(self, runs: list[UUID], monkeypatch):
        """Without the wait: all of them at once, and live traffic finds no room."""
        outbox = Outbox()
        Subscription.objects.update(window=4, window_now=4)
        emit_parcels(6, outbox)
        Event.objects.update(fanned_out_at=timezone.now())
        most: list[int] = []

        def work(_seconds: float) -> None:
            most.append(Delivery.objects.filter(state__in=("pending", "sent")).count())
            outbox.deliver_all()

        monkeypatch.setattr("outbox.operations.progress.time.sleep", work)
        operations.backfill(
            operations.Choice(handler="tests.invoice"), by="cli:ann", reason="a test", rate=None
        )

        assert max(most) == 2
        assert Delivery.objects.count() == 6

    def test_goes_on_while_a_delivery_waits_for_its_next_attempt(
        self, runs: list[UUID], monkeypatch: pytest.MonkeyPatch
    ):
        """Failed: with a window of 1 it waited until that delivery had been settled."""
        outbox = Outbox()
        emit_parcels(1, outbox)
        run_pass()
        Subscription.objects.update(window_now=1)
        waiting = Delivery.objects.filter(state=State.SENT)
        waiting.update(state=State.PENDING, due_at=timezone.now() + timedelta(hours=1))
        emit_parcels(3, outbox)
        Event.objects.update(fanned_out_at=timezone.now())
        due: list[int] = []

        def work(_seconds: float) -> None:
            rows = Delivery.objects.filter(state=State.PENDING, due_at__lte=timezone.now())
            due.append(rows.update(state=State.DONE))
            assert len(due) < 10

        monkeypatch.setattr("outbox.operations.progress.time.sleep", work)
        done = operations.backfill(
            operations.Choice(handler="tests.invoice"), by="cli:ann", reason="a test", rate=None
        )

        assert done.touched == 3
        assert max(due) == 1

    def test_waits_while_many_deliveries_wait_for_their_next_attempt(
        self, runs: list[UUID], monkeypatch: pytest.MonkeyPatch
    ):
        """New events would wait behind all of them. Seen to fail without this limit."""
        monkeypatch.setattr("outbox.operations.backfills._MOST_UNSETTLED", 3)
        outbox = Outbox()
        Subscription.objects.update(window_now=1)
        emit_parcels(6, outbox)
        Event.objects.update(fanned_out_at=timezone.now())
        pending = Delivery.objects.filter(state=State.PENDING)
        most: list[int] = []
        reasons: list[str] = []

        def work(_seconds: float) -> None:
            """Each attempt fails. Later all deliveries are done."""
            most.append(pending.count())
            if reasons[-1].startswith("too many"):
                pending.update(state=State.DONE)
            else:
                pending.update(due_at=timezone.now() + timedelta(hours=1))

        monkeypatch.setattr("outbox.operations.progress.time.sleep", work)
        operations.backfill(
            operations.Choice(handler="tests.invoice"),
            by="cli:ann",
            reason="a test",
            rate=None,
            report=lambda _operation, reason: reasons.append(reason),
        )

        assert max(most) == 3
        assert "too many deliveries of tests.invoice wait for their next attempt" in reasons
        assert Delivery.objects.count() == 6

    @pytest.mark.parametrize("live", [2, 3])
    def test_does_not_end_if_live_events_fill_the_window_between_two_reads(
        self, live: int, runs: list[UUID], monkeypatch: pytest.MonkeyPatch
    ):
        """Half of it and more. Seen to fail where no room is taken for nothing left to do."""
        outbox = Outbox()
        Subscription.objects.update(window=4, window_now=4)
        emit_parcels(3, outbox)
        Event.objects.update(fanned_out_at=timezone.now())
        look = Backfill.reason_to_wait

        def look_too_early(task: Backfill) -> str:
            found = look(task)
            if not found and not Delivery.objects.exists():
                emit_parcels(live, outbox)
                run_pass()
            return found

        def work(_seconds: float) -> None:
            Delivery.objects.update(state=State.DONE)

        monkeypatch.setattr(Backfill, "reason_to_wait", look_too_early)
        monkeypatch.setattr("outbox.operations.progress.time.sleep", work)
        done = operations.backfill(
            operations.Choice(handler="tests.invoice"), by="cli:ann", reason="a test", rate=None
        )

        assert done.touched == 3

    def test_refuses_a_paused_handler(self, runs: list[UUID]):
        Outbox()
        operations.pause("tests.invoice", by="cli:ann", reason="a test")

        with pytest.raises(CommandError, match="To resume it: "):
            outbox_command("backfill", "tests.invoice", "--reason", "a test")


class TestEnd:
    def test_lets_nothing_more_be_owed(self, runs: list[UUID]):
        deliveries(*EACH)
        outbox = Outbox()

        outbox_command("end", "tests.invoice", "--reason", "nobody wants invoices")
        emit_parcels(1, outbox)
        outbox.deliver_all()

        assert states() == [*["discarded"] * 4, "done", "discarded"]
        assert not runs

    def test_is_undone_by_resuming_and_backfilling(self, runs: list[UUID]):
        outbox = Outbox()
        operations.end("tests.invoice", by="cli:ann", reason="a mistake")
        (missed,) = emit_parcels(1, outbox)
        outbox.deliver_all()

        operations.resume("tests.invoice", by="cli:ann")
        operations.backfill(
            operations.Choice(handler="tests.invoice"), by="cli:ann", reason="missed"
        )
        outbox.deliver_all()

        assert runs == [missed.id]


class TestTheRate:
    def test_limits_the_rows_that_are_changed_in_a_second(self, runs: list[UUID], monkeypatch):
        deliveries(*["dead"] * 10)
        slept: list[float] = []
        monkeypatch.setattr("outbox.operations.progress.time.sleep", slept.append)
        monkeypatch.setattr("outbox.operations.progress.time.monotonic", lambda: 0.0)

        operations.retry(operations.Choice(), by="cli:ann", rate=5)

        assert slept == [1.0, 2.0]


class TestTheLog:
    def test_names_user_action_and_reason(self, runs: list[UUID]):
        outbox = Outbox()
        emit_parcels(2)
        outbox.deliver_all()
        operations.pause("tests.invoice", by="cli:ann", reason="wrong prices")
        operations.resume("tests.invoice", by="cli:bob", reason="right ones")
        Event.objects.update(emitted_at=timezone.now() - timedelta(days=2))
        for _ in range(2):  # the second finds nothing, and is not recorded
            operations.prune(older_than=timedelta(days=1), by="cli:cron")

        lines = outbox_command("log").splitlines()

        assert "cli:ann" in lines[1]
        assert lines[1].endswith("wrong prices")
        assert "resume" in lines[2]
        assert "older_than=1 day" in lines[3]
        assert len(lines) == 4


class TestADryRunOfAHandler:
    def test_shows_writes_and_events_of_an_atomic_handler_and_keeps_nothing(self):
        """Without the rollback: a changed parcel and a second event."""

        @subscribe("parcels.ParcelSent")
        def weigh(parcel_id: UUID, event_id: UUID) -> None:
            Subscription.objects.filter(pk=-1).update(handler="x")  # the outbox's own: left out
            Parcel.objects.filter(pk=uuid4()).update(status="lost")
            emit(Weighed(parcel_id=parcel_id))

        outbox = Outbox()
        (event,) = emit_parcels(1)
        outbox.deliver_all()
        before = list(Delivery.objects.values()), list(Event.objects.values())
        pk = Delivery.objects.get(event=event).pk

        found = dry_run(pk)

        assert found.events == [f"tests.Weighed {event.key}"]
        (statement,) = found.writes
        assert statement.startswith('UPDATE "freight_parcel" SET "status" = \'lost\'')
        assert (list(Delivery.objects.values()), list(Event.objects.values())) == before

    @pytest.mark.postgresql
    def test_shows_a_statement_that_is_no_str(self):
        """Failed with "raises TypeError", which the handler does not raise in a worker."""
        place = sql.SQL("UPDATE {} SET status = %s").format(sql.Identifier("freight_parcel"))

        @subscribe("parcels.ParcelSent")
        def weigh() -> None:
            with connection.cursor() as cursor:
                cursor.execute(place, ["lost"])

        outbox = Outbox()
        emit_parcels(1)
        outbox.deliver_all()

        found = dry_run(Delivery.objects.get().pk)

        assert found.error == ""
        assert found.writes == ["UPDATE \"freight_parcel\" SET status = 'lost'"]

    def test_names_the_error_that_the_handler_raises(self):
        @subscribe("parcels.ParcelSent", backoff_base=0)
        def weigh(attempt: int) -> None:
            if attempt > 1:
                raise KeyError("scales")

        outbox = Outbox()
        emit_parcels(1)
        outbox.deliver_all()

        said = outbox_command(
            "replay", "--handler", "tests.weigh", "--dry-run", "--show-writes"
        ).splitlines()

        assert said[-1] == "    raises KeyError: 'scales'"
        assert states() == ["done"]

    def test_leaves_out_pruned_deliveries(self, monkeypatch: pytest.MonkeyPatch):
        @subscribe("parcels.ParcelSent")
        def weigh() -> None: ...

        outbox = Outbox()
        emit_parcels(2)
        outbox.deliver_all()
        first, second = Delivery.objects.order_by("pk")

        def prune_the_first(pk: int) -> DryRun:
            Delivery.objects.filter(pk=first.pk).delete()
            return dry_run(pk)

        monkeypatch.setattr("outbox.management.cli.deliveries.dry_run", prune_the_first)
        said = outbox_command("replay", "--handler", "tests.weigh", "--dry-run", "--show-writes")

        assert f"delivery {first.pk} of tests.weigh, run and rolled back" not in said
        assert f"delivery {second.pk} of tests.weigh, run and rolled back" in said

    def test_is_refused_where_it_could_not_be_rolled_back(self):
        @subscribe("parcels.ParcelSent", atomic=False)
        def call(receipt: Receipt) -> None:
            with receipt:
                pass

        outbox = Outbox()
        emit_parcels(1)
        outbox.deliver_all()

        with pytest.raises(CannotDryRun, match="atomic=False"):
            dry_run(Delivery.objects.get().pk)

    @pytest.mark.usefixtures("runs")
    def test_is_refused_if_the_handler_is_paused(self):
        (row,) = deliveries("done")
        operations.pause("tests.invoice", by="cli:ann", reason="a test")

        with pytest.raises(CannotDryRun, match=r"not start: its handler is paused by cli:ann\."):
            dry_run(row.pk)

    def test_is_refused_if_only_a_later_release_can_read_the_event(self):
        """Seen to fail where whatever does not start is taken for paused."""

        @subscribe("tests.Weighed")
        def invoice() -> None: ...

        Outbox().given("tests.Weighed", stored_version=2, parcel_id=uuid4())
        run_pass()

        with pytest.raises(CannotDryRun, match=r"did not start: .*cannot read version 2 of"):
            dry_run(Delivery.objects.get().pk)


class TestATime:
    @pytest.mark.parametrize(
        "said", ["2026-11-25T10:00", "2026-11-25 10:00:00", "2026-11-25T19:00+09:00"]
    )
    def test_is_of_utc_wherever_the_project_is(self, settings: Settings, said: str):
        """Seen to fail with a time of the project's TIME_ZONE."""
        settings.TIME_ZONE = "Asia/Tokyo"

        assert parse_time(said) == datetime(2026, 11, 25, 10, tzinfo=UTC)


@pytest.mark.usefixtures("runs")
class TestATypingError:
    @pytest.mark.parametrize(
        ("arguments", "meant"),
        [
            (["discard", "--handler", "tests.invoic"], r"tests\.invoice"),
            (["replay", "--event", "parcels.ParcelSend"], r"parcels\.ParcelSent"),
            (["end", "tests.invioce"], r"tests\.invoice"),
        ],
    )
    def test_suggests_the_intended_name(self, arguments: list[str], meant: str):
        Outbox()

        with pytest.raises(CommandError, match=rf"[Dd]id you mean {meant}\?"):
            outbox_command(*arguments)


class TestTwoRunsWithOneRecord:
    def test_add_up(self):
        """Seen to have the number of the later one only."""
        record = partial(
            progress.recorded,
            "prune",
            {"older_than": "a day"},
            by="cli:ann",
            reason="",
            using="default",
        )
        with record() as first:
            with record() as second:
                second.touched += 300
            first.touched += 500

        assert Operation.objects.get().touched == 800

    def test_keep_it_if_one_of_them_has_removed_nothing(self, monkeypatch: pytest.MonkeyPatch):
        """Seen to delete the record of the other one."""
        other: list[int] = []

        def prune(**_options: Any) -> int:
            if other:
                return 500
            other.append(1)
            operations.prune(older_than=timedelta(days=1), by="cli:ann")  # ends meanwhile
            return 0

        monkeypatch.setattr("outbox.operations.removal.retention.prune", prune)

        operations.prune(older_than=timedelta(days=1), by="outbox.prune")

        assert Operation.objects.get().touched == 500
