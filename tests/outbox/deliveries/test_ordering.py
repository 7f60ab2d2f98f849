"""Order per key (rule 18): deliveries run in sequence, in order of `seq`."""

from __future__ import annotations

import random
import threading
import time
from collections import defaultdict
from datetime import timedelta
from functools import partial
from uuid import UUID, uuid4

import pytest
from django.db import OperationalError, transaction
from django.db.models import F
from django.utils import timezone

from outbox import DomainEvent, PermanentFailure, emit, operations, subscribe, subscriptions
from outbox.deliveries import failpoints, ordering, settlement
from outbox.deliveries.key_rows import OrderedKey
from outbox.deliveries.sync import sync_subscriptions
from outbox.deliveries.transient_errors import DatabaseAccess
from outbox.models import Delivery, Event, Operation, Subscription
from outbox.monitor.diagnosis import why
from outbox.operations import progress
from outbox.relay.passes import relay_pass
from outbox.subscriptions import find
from outbox.testing import Outbox
from outbox.transports.base import Message
from outbox.worker.delivery import deliver
from outbox.worker.start import start
from tests.outbox.drive import Died, create_deliveries, die, run_messages, run_pass, states
from tests.outbox.ordered import A, B, Listener, Walked, emit_numbers, start_beside_replay
from tests.threads import aside, in_thread, run_together, wait_until_blocked

pytestmark = pytest.mark.usefixtures("own_registry", "no_nudge")


class Renamed(DomainEvent, key="order_id"):
    order_id: UUID
    number: int = 0


@pytest.fixture
def listener(db: None) -> Listener:
    return Listener()


def recheck() -> None:
    Delivery.objects.filter(state="blocked").update(due_at=timezone.now())


class Noted(DomainEvent, key="place"):
    place: str
    number: int = 0


class TestAnEmptyKey:
    def test_is_a_key_like_any_other(self, db: None):
        """Failed: a later delivery was not released, and replays ran in any order."""
        received = []

        @subscribe("tests.Noted", name="tests.note", ordered=True)
        def note(number: int) -> None:
            received.append(number)

        sync_subscriptions()
        for number in (1, 2, 3):
            Outbox().given("tests.Noted", place="", number=number)

        for _ in range(3):
            run_messages(run_pass())

        assert received == [1, 2, 3]


class TestAKey:
    def test_is_handled_in_sequence_and_in_parallel_with_other_keys(self, listener):
        """Rule 18. Seen to fail with every delivery born pending."""
        listener.subscribe()
        emit_numbers(1, 2, 3)
        emit_numbers(1, 2, key=B)

        [message] = run_pass()

        assert len(message.pairs) == 2, "one of each key"
        assert states() == ["sent", "blocked", "blocked", "sent", "blocked"]
        run_messages([message])
        assert states() == ["done", "pending", "blocked", "done", "pending"]
        Outbox().deliver_all()
        assert [number for key, number in listener.received if key == A] == [1, 2, 3]
        assert not Delivery.objects.exclude(order_key=None).exists(), "nobody stands in line"

    def test_waits_for_a_delivery_that_is_retried(self, listener):
        """Rule 18. Seen to fail with a line that is left by a failure."""
        listener.subscribe()
        listener.failing[1] = ValueError()
        emit_numbers(1, 2, 3)

        run_messages(run_pass())
        assert states() == ["pending", "blocked", "blocked"]
        listener.failing.clear()
        Outbox().deliver_all()

        assert [number for _, number in listener.received] == [1, 2, 3]

    def test_waits_for_a_delivery_whose_worker_died_or_whose_message_was_lost(self, listener):
        listener.subscribe()
        emit_numbers(1, 2)
        run_pass()
        Delivery.objects.filter(state="sent").update(due_at=timezone.now() - timedelta(hours=1))
        [message] = run_pass()
        for delivery_id, token in message.pairs:
            Delivery.objects.filter(id=delivery_id).update(
                started_token=token, attempts=F("attempts") + 1, started_at=timezone.now()
            )
        Delivery.objects.filter(state="sent").update(due_at=timezone.now() - timedelta(hours=1))
        run_pass()
        assert "blocked" in states()

        Outbox().deliver_all()

        assert [number for _, number in listener.received] == [1, 2]

    def test_is_one_sequence_for_all_events_of_the_handler(self, listener):
        """Rule 18. Seen to fail with lines of one subscription each."""
        listener.subscribe("tests.Walked", "tests.Renamed")
        emit_numbers(1)
        emit_numbers(2, name="tests.Renamed")
        emit_numbers(3)

        assert [len(message.pairs) for message in run_pass()] == [1]
        assert states() == ["sent", "blocked", "blocked"]

    def test_has_no_effect_on_an_unordered_handler(self, listener):
        @subscribe("tests.Walked")
        def count() -> None: ...

        listener.subscribe()
        emit_numbers(1, 2, 3)

        sent = {message.handler: len(message.pairs) for message in run_pass()}

        assert sent == {"tests.count": 3, "tests.note": 1}
        others = Delivery.objects.filter(subscription__handler="tests.count")
        assert set(others.values_list("order_key", flat=True)) == {None}


class TestADeadHead:
    def test_blocks_its_key_until_a_person_retries_it(self, listener):
        """Rule 18. Seen to fail with dead ones left out of `first_of`."""
        listener.subscribe()
        listener.failing[1] = PermanentFailure("no")
        emit_numbers(1, 2)
        emit_numbers(1, key=B)
        Outbox().deliver_all(raise_errors=False)
        recheck()
        run_pass()
        assert states() == ["dead", "blocked", "dead"]

        listener.failing.clear()
        Delivery.objects.filter(state="dead").update(state="pending", attempts=0)
        Outbox().deliver_all()

        assert [number for key, number in listener.received if key == A] == [1, 2]

    def test_lets_later_deliveries_pass_if_the_handler_allows_it(self, listener):
        """Rule 18. Seen to fail without `_line_left`."""
        listener.subscribe(on_dead="pass")
        listener.failing[1] = PermanentFailure("no")
        emit_numbers(1, 2, 3)

        Outbox().deliver_all(raise_errors=False)

        assert states() == ["dead", "done", "done"]

    def test_that_is_discarded_unblocks_its_key_at_the_next_check(self, listener):
        """Seen to fail without `recheck`: nobody else would ever notice."""
        listener.subscribe()
        listener.failing[1] = PermanentFailure("no")
        emit_numbers(1, 2)
        Outbox().deliver_all(raise_errors=False)
        Delivery.objects.filter(state="dead").update(state="discarded")

        recheck()
        Outbox().deliver_all()

        assert states() == ["discarded", "done"]

    def test_costs_a_pass_two_reads_regardless_of_the_queue_behind_it(
        self, listener, django_assert_num_queries
    ):
        listener.subscribe()
        listener.failing[0] = PermanentFailure("no")
        emit_numbers(*range(100))
        Outbox().deliver_all(raise_errors=False)

        with django_assert_num_queries(2):
            assert run_pass() == []

    def test_is_checked_at_growing_intervals(self, listener):
        listener.subscribe()
        listener.failing[1] = PermanentFailure("no")
        emit_numbers(1, 2)
        Outbox().deliver_all(raise_errors=False)
        blocked_at = timezone.now() - timedelta(minutes=2)
        Event.objects.update(fanned_out_at=blocked_at)
        recheck()

        before = timezone.now()
        run_pass()
        after = timezone.now()

        looked_at_next = Delivery.objects.get(state="blocked").due_at
        assert before + (before - blocked_at) <= looked_at_next <= after + (after - blocked_at)

    def test_does_not_delay_the_recheck_of_another_key(self, listener, monkeypatch):
        """Failed: those that had been due for longest came first, in vain, at every pass."""
        monkeypatch.setattr(ordering, "_RECHECKED_AT_ONCE", 4)
        listener.subscribe()
        listener.failing[0] = PermanentFailure("no")
        emit_numbers(*range(10))
        Outbox().deliver_all(raise_errors=False)
        emit_numbers(20, key=B)
        create_deliveries()
        long_ago = timezone.now() - timedelta(hours=1)
        Delivery.objects.filter(state="blocked").update(due_at=long_ago)
        of_another_key = Delivery.objects.filter(event__key=str(B))
        of_another_key.update(state="blocked", due_at=timezone.now())  # as the race leaves it

        run_pass()

        assert of_another_key.get().state == "sent"

    def test_is_checked_less_often_while_more_are_due_than_a_pass_checks(
        self, listener, monkeypatch
    ):
        """Failed: a long queue was due again before the last of it was checked."""
        monkeypatch.setattr(ordering, "_RECHECKED_AT_ONCE", 2)
        listener.subscribe()
        listener.failing[0] = PermanentFailure("no")
        emit_numbers(*range(4))
        Outbox().deliver_all(raise_errors=False)
        age = timedelta(hours=2)
        Event.objects.update(fanned_out_at=timezone.now() - age)
        recheck()
        before = timezone.now()

        run_pass()

        assert Delivery.objects.filter(state="blocked", due_at__gte=before + age).count() == 2

    @pytest.mark.django_db(transaction=True)
    def test_that_is_discarded_releases_the_next_delivery(self, listener):
        """Failed: a relay had to check the whole queue of the key."""
        listener.subscribe()
        listener.failing[1] = PermanentFailure("no")
        emit_numbers(1, 2, 3)
        Outbox().deliver_all(raise_errors=False)

        operations.discard(operations.Choice(states=("dead",)), by="ann", reason="a test")

        assert states() == ["discarded", "pending", "blocked"]


class TestTheCheckBeforeAStart:
    def test_blocks_a_delivery_that_is_out_of_turn(self, listener):
        """Rule 18. Seen to fail without `out_of_turn` in `_startable`."""
        listener.subscribe()
        emit_numbers(1, 2)
        messages = run_pass()
        Delivery.objects.filter(state="blocked").update(state="pending", due_at=timezone.now())
        messages += run_pass()
        assert states() == ["sent", "sent"]

        run_messages(messages[::-1])

        assert listener.received == [(A, 1)]
        assert not Delivery.objects.filter(attempts__gt=1).exists()
        Outbox().deliver_all()
        assert [number for _, number in listener.received] == [1, 2]


class TestADeliveryThatIsHandedBackAfterItsStart:
    @pytest.fixture
    def started(self, listener) -> Delivery:
        """A started delivery, for whose end the replay of an earlier one of its key waits."""
        listener.subscribe()
        emit_numbers(1)
        run_messages(run_pass())
        emit_numbers(2)
        [message] = run_pass()
        handler, access = find("tests.note"), DatabaseAccess("default")
        assert handler is not None
        [started] = start(handler, message.pairs, worker="w1", access=access)
        operations.replay(operations.Choice(states=("done",)), by="ann", reason="a test")
        run_messages(run_pass())
        assert states() == ["blocked", "sent"]
        return started

    def test_releases_a_replay_that_waited_for_its_end(self, started: Delivery):
        """Failed: the replay waited until a relay checked it again, after minutes."""
        settlement.hand_back_started(started, note="no thread ran it", using="default")

        assert states() == ["pending", "pending"]

    def test_releases_it_also_after_a_transient_error(
        self, started: Delivery, monkeypatch: pytest.MonkeyPatch
    ):
        """Failed: the second try found a pending delivery, and released nothing."""
        tries: list[OrderedKey] = []
        release = ordering.release

        def fail_once(key: OrderedKey, *, using: str) -> None:
            tries.append(key)
            if len(tries) == 1:
                raise OperationalError("database is locked")
            release(key, using=using)

        monkeypatch.setattr(ordering, "release", fail_once)

        with pytest.raises(OperationalError):
            settlement.hand_back_started(started, note="no thread ran it", using="default")
        settlement.hand_back_started(started, note="no thread ran it", using="default")

        assert states() == ["pending", "pending"]


class TestAPausedHandler:
    def test_continues_in_order_when_it_is_resumed(self, listener):
        listener.subscribe()
        emit_numbers(1, 2, 3)
        run_pass()
        operations.pause("tests.note", by="ann", reason="a test")
        Delivery.objects.filter(state="sent").update(due_at=timezone.now() - timedelta(hours=1))
        run_pass()
        emit_numbers(4)
        run_pass()
        assert sorted(states()) == ["blocked", "blocked", "blocked", "parked"]

        operations.resume("tests.note", by="ann")
        Outbox().deliver_all()

        assert [number for _, number in listener.received] == [1, 2, 3, 4]


class TestADeploy:
    def test_that_makes_a_handler_ordered_orders_its_owed_deliveries(self, listener):
        """Seen to fail without `set_order_keys`."""
        listener.subscribe(ordered=False)
        emit_numbers(1, 2, 3)
        messages = run_pass()
        subscriptions.registry.clear()
        listener.subscribe()

        for message in messages:
            for pair in message.pairs[::-1]:
                deliver(handler_name=message.handler, pairs=[pair], worker="w1")
        assert listener.received == [(A, 1)]
        Outbox().deliver_all()

        assert [number for _, number in listener.received] == [1, 2, 3]

    def test_that_makes_a_handler_unordered_unblocks_all_deliveries(self, listener):
        listener.subscribe()
        emit_numbers(1, 2, 3)
        run_pass()
        subscriptions.registry.clear()
        listener.subscribe(ordered=False)

        assert states() == ["sent", "pending", "pending"]
        assert not Delivery.objects.exclude(order_key=None).exists()

    def test_that_lets_dead_deliveries_be_passed_unblocks_their_keys(self, listener):
        listener.subscribe()
        listener.failing[1] = PermanentFailure("no")
        emit_numbers(1, 2)
        Outbox().deliver_all(raise_errors=False)
        subscriptions.registry.clear()
        listener.subscribe(on_dead="pass")

        Outbox().deliver_all(raise_errors=False)

        assert states() == ["dead", "done"]

    def test_that_renames_a_handler_keeps_the_order(self, listener):
        listener.subscribe()
        emit_numbers(1, 2, 3)
        run_messages(run_pass())
        subscriptions.registry.clear()

        @subscribe("tests.Walked", formerly=["tests.note"], ordered=True)
        def note_down(order_id: UUID, number: int) -> None:
            listener.receive(order_id, number)

        sync_subscriptions()
        emit_numbers(4)
        Outbox().deliver_all()

        assert [number for _, number in listener.received] == [1, 2, 3, 4]


@pytest.mark.postgresql
@pytest.mark.django_db(transaction=True)
class TestTwoRelays:
    def test_keep_the_order_although_the_later_event_is_fanned_out_first(self, listener):
        """Rule 18. Seen to fail without the events that wait in `first_of`."""
        listener.subscribe()
        emit_numbers(1, 2)
        first = Event.objects.order_by("seq")[0]

        with transaction.atomic():
            Event.objects.select_for_update().get(pk=first.pk)  # as a relay that fans it out
            aside(lambda: run_messages(run_pass()))
            assert states() == ["blocked"]
            assert listener.received == []
        recheck()
        Outbox().deliver_all()

        assert [number for _, number in listener.received] == [1, 2]

    def test_leave_no_delivery_blocked_that_is_created_while_the_head_commits(self, listener):
        """Rule 18: the one race. Seen to fail without `recheck`."""
        listener.subscribe()
        emit_numbers(1)
        [message] = run_pass()
        emit_numbers(2)

        with transaction.atomic():  # the head's settlement, which cannot see what is born now
            Delivery.objects.filter(pk=message.pairs[0][0]).update(state="done", order_key=None)
            ordering.release(("tests.note", str(A)), using="default")
            aside(run_pass)
            assert Delivery.objects.filter(state="blocked").count() == 1
        recheck()
        Outbox().deliver_all()

        assert [number for _, number in listener.received] == [2]


class Overlap:
    """A handler that notes how many of its runs there are at once; each waits for a second one."""

    def __init__(self) -> None:
        self.order: list[int] = []
        self.most = 0
        self.failing: set[int] = set()
        self.is_running = threading.Event()
        self.may_end = threading.Event()
        self._lock = threading.Lock()
        self._now = 0

    def __call__(self, number: int) -> None:
        with self._lock:
            self._now += 1
            self.most = max(self.most, self._now)
            self.order.append(number)
        self.is_running.set()
        assert self.may_end.wait(60)
        with self._lock:
            self._now -= 1
        if number in self.failing:
            raise ValueError


@pytest.mark.django_db(transaction=True)
@pytest.mark.postgresql
class TestAReplay:
    """Rule 18: a handler runs one delivery of a key at a time."""

    @pytest.fixture
    def overlap(self, listener: Listener) -> Overlap:
        """Number 1 is done and can be replayed; number 2 is sent."""
        overlap = Overlap()

        @subscribe("tests.Walked", name="tests.note", ordered=True, backoff_base=0)
        def note(number: int) -> None:
            overlap(number)

        sync_subscriptions()
        overlap.may_end.set()
        emit_numbers(1)
        run_messages(run_pass())
        overlap.order.clear()
        overlap.may_end.clear()
        overlap.is_running.clear()
        emit_numbers(2)
        return overlap

    def replay(self) -> list[Message]:
        operations.replay(operations.Choice(states=("done",)), by="ann", reason="a test")
        return run_pass()

    def test_does_not_run_during_a_later_delivery_of_its_key(self, overlap: Overlap):
        """Failed while only earlier deliveries were looked at."""
        later = in_thread(partial(run_messages, run_pass()))
        assert overlap.is_running.wait(60)

        run_messages(self.replay())

        assert states() == ["blocked", "sent"]
        assert overlap.order == [2]
        overlap.may_end.set()
        later()
        Outbox().deliver_all()
        assert (overlap.order, overlap.most) == ([2, 1], 1)

    def test_does_not_run_during_a_delivery_that_starts_at_the_same_time(self, overlap: Overlap):
        """Failed without the lock of the line: neither start sees the other."""
        later = start_beside_replay(run_pass(), self.replay, is_running=overlap.is_running)
        overlap.may_end.set()
        later()
        Outbox().deliver_all()

        assert (overlap.order, overlap.most) == ([2, 1], 1)

    def test_continues_when_the_running_delivery_has_failed(self, overlap: Overlap):
        """Failed while only what left the line released another."""
        later = in_thread(partial(run_messages, run_pass()))
        assert overlap.is_running.wait(60)
        run_messages(self.replay())
        assert states() == ["blocked", "sent"]

        overlap.failing.add(2)
        overlap.may_end.set()
        later()

        assert states() == ["pending", "pending"]

    def test_is_explained_by_why(self, overlap: Overlap):
        later = in_thread(partial(run_messages, run_pass()))
        assert overlap.is_running.wait(60)
        run_messages(self.replay())

        text = why(Delivery.objects.get(state="blocked"))

        overlap.may_end.set()
        later()
        assert "is running, and a key has one running delivery" in text


@pytest.mark.postgresql
@pytest.mark.django_db(transaction=True)
class TestEmitters:
    def test_of_one_key_wait_for_each_other_so_that_seq_follows_commit_order(self, listener):
        """Rule 18. Seen to fail without the lock in the INSERT of `emit`: the second commits before
        the first, under the later `seq`, and is handled before it.
        """
        listener.subscribe()

        def emit_second() -> None:
            with transaction.atomic():
                emit(Walked(order_id=A, number=2))

        thread = threading.Thread(target=partial(aside, emit_second))
        with transaction.atomic():
            emit(Walked(order_id=A, number=1))
            thread.start()
            wait_until_blocked(1)
            aside(lambda: run_messages(run_pass()))
            assert listener.received == []
        thread.join()
        Outbox().deliver_all()

        assert [number for _, number in listener.received] == [1, 2]

    def test_of_one_key_get_their_seq_after_the_lock(self, listener):
        listener.subscribe()

        def emit_third() -> None:
            with transaction.atomic():
                emit(Walked(order_id=A, number=3))

        thread = threading.Thread(target=partial(aside, emit_third))
        with transaction.atomic():
            emit(Walked(order_id=A, number=1))
            thread.start()
            wait_until_blocked(1)
            emit(Walked(order_id=A, number=2))
        thread.join()

        numbers = Event.objects.order_by("seq").values_list("payload__number", flat=True)
        assert list(numbers) == [1, 2, 3]

    def test_emit_with_one_statement(self, listener, django_assert_num_queries):
        listener.subscribe()

        with transaction.atomic(), django_assert_num_queries(1):
            emit(Walked(order_id=A, number=1))

    def test_of_other_keys_or_of_events_without_an_ordered_handler_do_not_wait(self, listener):
        listener.subscribe()

        def emit_others() -> None:
            with transaction.atomic():
                emit(Walked(order_id=B, number=1))
                emit(Renamed(order_id=A, number=1))

        with transaction.atomic():
            emit(Walked(order_id=A, number=1))
            aside(emit_others)

    def test_of_two_keys_in_opposite_order_end_with_one_of_them_rolled_back(self, listener):
        """The transaction that lost is rolled back, and can be repeated."""
        listener.subscribe()
        meet = threading.Barrier(2)
        lost: list[Exception] = []

        def both(first: UUID, second: UUID, number: int) -> None:
            try:
                with transaction.atomic():
                    emit(Walked(order_id=first, number=number))
                    meet.wait(timeout=60)
                    emit(Walked(order_id=second, number=number))
            except OperationalError as error:
                lost.append(error)

        run_together([partial(both, A, B, 1), partial(both, B, A, 2)])

        assert len(lost) == 1
        assert "deadlock" in str(lost[0])
        assert Event.objects.count() == 2
        assert Event.objects.values("payload__number").distinct().count() == 1

    def test_may_emit_events_of_thousands_of_keys_in_one_transaction(self, listener):
        listener.subscribe()

        with transaction.atomic():
            for number in range(3000):
                emit(Walked(order_id=uuid4(), number=number))

        assert Event.objects.count() == 3000


@pytest.mark.postgresql
@pytest.mark.django_db(transaction=True)
class TestACorrectedEvent:
    def test_gets_its_seq_after_an_open_transaction_that_emits_for_its_key(self, listener):
        """Rule 18. Failed while a correction stored its event without the key's lock."""
        listener.subscribe()
        emit_numbers(1)
        run_pass()
        Delivery.objects.update(state="dead")
        payload = {"order_id": str(A), "number": 5}
        (dead,) = Delivery.objects.all()

        with transaction.atomic():
            emit(Walked(order_id=A, number=2))
            correct = partial(operations.correct, dead.pk, payload, by="ann", reason="a test")
            corrected = in_thread(correct)
            wait_until_blocked(1)
            emit(Walked(order_id=A, number=3))

        assert isinstance(corrected(), Event), corrected()
        numbers = [event.payload["number"] for event in Event.objects.order_by("seq")]
        assert numbers == [1, 2, 3, 5]


class TestABackfill:
    """The backfill of an ordered handler: no new event of a key overtakes an old one."""

    CHOICE = operations.Choice(handler="tests.note")

    def given_before_it_subscribed(self, listener: Listener, *numbers: int) -> None:
        emit_numbers(*numbers)
        run_pass()
        listener.subscribe()
        assert not Delivery.objects.exists()

    def backfill(self, **options) -> None:
        operations.backfill(self.CHOICE, by="ann", reason="a test", **options)

    def test_holds_new_events_until_it_has_added_all_old_ones(
        self, listener: Listener, monkeypatch
    ):
        """Failed: the new event was handled between two steps of the backfill."""
        monkeypatch.setattr(progress, "_SLICE", 2)
        self.given_before_it_subscribed(listener, 1, 2, 3, 4)
        steps = []

        def go_on_meanwhile(*_progress: object) -> None:
            steps.append(1)
            if len(steps) == 1:
                emit_numbers(5)
            Outbox().deliver_all()

        self.backfill(report=go_on_meanwhile)
        Outbox().deliver_all()

        assert len(steps) > 2
        assert [number for _key, number in listener.received] == [1, 2, 3, 4, 5]
        assert Subscription.objects.get().paused_at is None

    def test_is_refused_if_a_later_event_of_a_key_is_handled(self, listener: Listener):
        """Failed: the handler got old events after new ones."""
        self.given_before_it_subscribed(listener, 1, 2)
        emit_numbers(3)
        Outbox().deliver_all()

        with pytest.raises(operations.CannotBackfill, match="has handled an event of key"):
            self.backfill()
        assert Delivery.objects.count() == 1
        assert not Operation.objects.exists()

        self.backfill(in_order=False)
        Outbox().deliver_all()
        assert [number for _key, number in listener.received] == [3, 1, 2]

    def test_is_not_refused_for_other_keys(self, listener: Listener):
        self.given_before_it_subscribed(listener, 1, 2)
        emit_numbers(3, key=B)
        Outbox().deliver_all()

        self.backfill()
        Outbox().deliver_all()

        assert [number for _key, number in listener.received] == [3, 1, 2]

    def test_that_is_killed_leaves_the_handler_paused_until_it_is_continued(
        self, listener: Listener, monkeypatch
    ):
        monkeypatch.setattr(progress, "_SLICE", 1)
        self.given_before_it_subscribed(listener, 1, 2)
        with pytest.raises(Died), failpoints.armed(failpoints.AFTER_STEP, die):
            self.backfill()
        emit_numbers(3)
        Outbox().deliver_all()
        assert listener.received == []
        assert Subscription.objects.get().pause_reason == "Its backfill is not complete."

        operations.continue_operation(Operation.objects.latest("pk").pk, by="ann")
        Outbox().deliver_all()

        assert [number for _key, number in listener.received] == [1, 2, 3]

    def test_that_is_abandoned_resumes_the_handler(self, listener: Listener, monkeypatch):
        monkeypatch.setattr(progress, "_SLICE", 1)
        self.given_before_it_subscribed(listener, 1, 2)
        with pytest.raises(Died), failpoints.armed(failpoints.AFTER_STEP, die):
            self.backfill()

        operations.give_up(Operation.objects.latest("pk").pk, by="ann")
        Outbox().deliver_all()

        assert [number for _key, number in listener.received] == [1]

    def test_stops_if_a_person_has_resumed_the_handler(self, listener: Listener, monkeypatch):
        monkeypatch.setattr(progress, "_SLICE", 1)
        self.given_before_it_subscribed(listener, 1, 2)

        def resume(*_progress: object) -> None:
            operations.resume("tests.note", by="bob", force=True)

        with pytest.raises(operations.CannotBackfill, match="was resumed before"):
            self.backfill(report=resume)


@pytest.mark.django_db(transaction=True)
class TestEverythingAtOnce:
    def test_keeps_the_emission_order_of_each_key(self, listener):
        """Rule 18, with three emitters, two relays, three workers, failures and lost messages.

        Seen to fail with every delivery born pending and the look before the start dropped; with
        one of the two alone it passes, since each makes up for the other.
        """
        fail = random.Random(7)
        lock = threading.Lock()
        running: dict[UUID, int] = defaultdict(int)
        handled: dict[UUID, list[int]] = defaultdict(list)
        shared_transaction: list[UUID] = []

        def note(order_id: UUID, event_id: UUID) -> None:
            with lock:
                running[order_id] += 1
                if running[order_id] > 1:
                    shared_transaction.append(order_id)
            try:
                time.sleep(0.001)
                if fail.random() < 0.15:
                    raise ValueError
                seq = Event.objects.get(id=event_id).seq
                with lock:
                    handled[order_id].append(seq)
            finally:
                with lock:
                    running[order_id] -= 1

        # Alone, since what is noted in memory does not go with a batch that is rolled back.
        ordered = subscribe(
            "tests.Walked",
            name="tests.note",
            ordered=True,
            shared_transaction=False,
            backoff_base=0,
        )
        ordered(note)
        sync_subscriptions()
        keys = [uuid4() for _ in range(4)]
        queue: list[Message] = []
        emitting = threading.Event()

        def emit_many(seed: int) -> None:
            rng = random.Random(seed)
            for _ in range(12):
                with transaction.atomic():
                    emit(Walked(order_id=rng.choice(keys)))
                    time.sleep(rng.random() * 0.004)

        def is_over() -> bool:
            settled = not Event.objects.filter(fanned_out_at=None).exists()
            owed = Delivery.objects.filter(state__in=Delivery.OWED).exists()
            return emitting.is_set() and settled and not owed

        def emit_all() -> None:
            run_together([partial(emit_many, seed) for seed in range(3)])
            emitting.set()

        def run(step) -> None:
            deadline = time.monotonic() + 150
            while not is_over() and time.monotonic() < deadline:
                step()
                time.sleep(0.005)

        def relay_some() -> None:
            relay_pass(publish=queue.append)

        def work_some() -> None:
            try:
                message = queue.pop(fail.randrange(max(1, len(queue))))
            except IndexError:
                return
            run_messages([message, message])

        run_together([emit_all, *[partial(run, relay_some)] * 2, *[partial(run, work_some)] * 3])

        emitted = defaultdict(list)
        for seq, key in Event.objects.order_by("seq").values_list("seq", "key"):
            emitted[UUID(key)].append(seq)
        assert handled == emitted
        assert shared_transaction == [], "one key, two at once"
