"""Relays, workers, emitters and a deploy run at the same time, on separate connections."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from functools import partial
from threading import Barrier
from threading import Event as Flag
from time import sleep
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.contrib.auth.models import Group
from django.db import connection, transaction
from django.utils import timezone

from outbox import DomainEvent, Receipt, clock, emit, operations, subscribe, subscriptions
from outbox.deliveries import ordering
from outbox.deliveries.locks import share_subscriptions
from outbox.deliveries.statements import Rows, Statement, read_each
from outbox.deliveries.sync import sync_subscriptions
from outbox.models import Attempt, Delivery, Event, Operation, Subscription
from outbox.operations import progress
from outbox.operations.backfills import missing
from outbox.relay.backlog import work_statement
from outbox.relay.fan_out import subscribers_of
from outbox.relay.passes import relay
from outbox.testing import Outbox
from outbox.transports.base import Message
from outbox.worker.delivery import deliver
from outbox.worker.outcome import Result
from tests.outbox.drive import create_deliveries, emit_events, run_message, run_pass
from tests.threads import aside, in_thread, run_together, wait_until_blocked

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("own_registry", "no_nudge"),
]


class Numbered(DomainEvent, key="order_id"):
    order_id: UUID
    number: int = 0


class TestTwoRelays:
    @pytest.mark.parametrize("is_fanned_out", [False, True], ids=["events", "deliveries"])
    def test_send_each_delivery_once(self, is_fanned_out: bool):
        """Rules 5 and 19. Seen to fail on PostgreSQL without the locks of `open_passes` and
        `SubscriptionPass._rows`; without that of `waiting_events` the unique delivery raises.
        """

        @subscribe("tests.Numbered", batch=1, window=1000)
        def count() -> None: ...

        sent: list[Message] = []
        emit_events("tests.Numbered", 150)
        if is_fanned_out:
            create_deliveries()

        run_together([partial(relay, publish=sent.append)] * 3)

        pairs = [pair for message in sent for pair in message.pairs]
        assert len(pairs) == len(set(pairs)) == 150
        assert set(Delivery.objects.values_list("token", flat=True)) == {1}

    def test_keep_a_handler_within_one_window(self):
        """Rule 13. Seen to fail on PostgreSQL without the lock of `open_passes`, and with what is
        in flight counted in the statement that locks.
        """

        @subscribe("tests.Numbered", batch=1, window=5)
        def count() -> None: ...

        for round in range(40):
            emit_events("tests.Numbered", 20)
            create_deliveries()

            run_together([run_pass] * 3)

            assert Delivery.objects.filter(state="sent").count() <= 5, round
            Delivery.objects.update(state="done")


class TestAnEventDuringADeploy:
    @pytest.mark.postgresql
    def test_is_delivered_to_a_handler_that_was_just_added(self, monkeypatch: pytest.MonkeyPatch):
        """Rule 15. Seen to fail with the subscriptions read before the events."""
        emit_events("tests.Numbered", 1)

        def deploy_and_emit() -> None:
            @subscribe("tests.Numbered")
            def count() -> None: ...

            sync_subscriptions()
            emit_events("tests.Numbered", 1)

        def read_beside_a_deploy(*asked: Statement, using: str) -> list[Rows]:
            found = []
            for statement in asked:
                found += read_each(statement, using=using)
                has_looked = statement.text == work_statement(using=using).text
                if has_looked and not Subscription.objects.exists():
                    aside(deploy_and_emit)
            return found

        monkeypatch.setattr("outbox.relay.backlog.read_each", read_beside_a_deploy)
        run_pass()
        run_pass()

        newest = Event.objects.latest("seq")
        assert [one.event_id for one in Delivery.objects.all()] == [newest.seq]


class TestStatementsInOneRoundTrip:
    @pytest.mark.postgresql
    def test_see_rows_committed_while_the_previous_statement_waited(self):
        """The relay reads the deliveries in flight when it has the handler's lock."""
        group = Group.objects.create(name="first")
        is_locked = Flag()
        lock = f"SELECT id FROM auth_group WHERE id = {group.pk} FOR UPDATE"
        number = "SELECT count(*) FROM auth_group"

        def hold() -> None:
            with transaction.atomic():
                Group.objects.select_for_update().get()
                Group.objects.create(name="second")
                is_locked.set()
                sleep(0.3)

        found: list[Rows] = []

        def read() -> None:
            is_locked.wait()
            with transaction.atomic():
                found.extend(read_each(Statement(lock), Statement(number), using="default"))

        run_together([hold, read])

        assert found == [[(group.pk,)], [(2,)]]


class TestAMessageThatTwoWorkersHave:
    @pytest.mark.parametrize("ordered", [False, True])
    def test_is_started_by_one_of_them(self, ordered: bool):
        """Rules 10 and 11. Seen to fail on PostgreSQL without the lock of `_start_locked`, and
        without `started_token` in what starts the others.
        """
        runs: list[UUID] = []

        @subscribe("tests.Numbered", ordered=ordered)
        def count(event_id: UUID) -> None:
            runs.append(event_id)

        results: list[Result] = []

        def work(message: Message) -> None:
            results.extend(run_message(message, worker="w"))

        for _ in range(10):
            emit_events("tests.Numbered", 5)
            [message] = run_pass()

            run_together([partial(work, message)] * 3)

        assert len(runs) == len(set(runs)) == 50
        assert {result.state for result in results} == {"done"}
        assert set(Delivery.objects.values_list("state", "attempts")) == {("done", 1)}
        assert not Attempt.objects.exists()


@pytest.mark.postgresql
class TestAnEventWhoseCommitIsLate:
    def test_is_delivered_although_a_later_event_was_delivered_before(self):
        """Rule 5. Seen to fail with `seq__gt` the last one that was fanned out in `fan_out`."""
        handled: list[int] = []

        @subscribe("tests.Numbered")
        def count(number: int) -> None:
            handled.append(number)

        outbox = Outbox()
        with transaction.atomic():
            emit(Numbered(order_id=uuid4(), number=1))
            aside(lambda: outbox.given("tests.Numbered", order_id=uuid4(), number=2))
            aside(outbox.deliver_all)
            assert handled == [2]

        outbox.deliver_all()

        assert handled == [2, 1]
        assert list(Event.objects.order_by("seq").values_list("payload__number", flat=True)) == [
            1,
            2,
        ]


@pytest.mark.postgresql
class TestADeploy:
    def test_stops_no_relay_while_it_syncs_the_subscriptions(self):
        """Rule 15. Seen to hang on PostgreSQL with a plain select_for_update() in `sync`: the
        deliveries' foreign keys wait for it, and it for the relay's lanes.
        """

        @subscribe("tests.Numbered")
        def count() -> None: ...

        emit_events("tests.Numbered", 3)

        with transaction.atomic():
            sync_subscriptions()
            aside(run_pass)

            assert Delivery.objects.filter(state="pending").count() == 3

    def test_stops_no_relay_while_it_merges_two_names_and_waits_for_a_worker(self):
        """Failed: every relay waited, behind the deploy, for the end of one handler."""
        entered, go_on = Flag(), Flag()

        @subscribe("tests.Numbered", atomic=False, lease=60)
        def count(receipt: Receipt) -> None:
            with receipt:
                entered.set()
                assert go_on.wait(60)

        old = list(subscriptions.registry)
        subscriptions.registry.clear()

        @subscribe("tests.Numbered", atomic=False, lease=60, formerly=["tests.count"])
        def count_orders(receipt: Receipt) -> None: ...

        renamed = list(subscriptions.registry)
        for release in (old, renamed, old):
            subscriptions.registry[:] = release
            sync_subscriptions()
        emit_events("tests.Numbered")
        [message] = [one for one in run_pass() if one.handler == "tests.count"]
        emit_events("tests.Numbered")
        worker = in_thread(lambda: run_message(message))
        assert entered.wait(60)
        subscriptions.registry[:] = renamed
        deploy = in_thread(sync_subscriptions)
        wait_until_blocked(1)

        relayed = in_thread(impatiently(run_pass))()
        go_on.set()
        worker()

        assert deploy() == []
        assert relayed == []
        assert Event.objects.filter(fanned_out_at=None).count() == 0
        assert Subscription.objects.get().handler == "tests.count_orders"
        assert sorted(Delivery.objects.values_list("state", flat=True)) == ["done", "pending"]

    @pytest.mark.parametrize("change", [{"ordered": True}, {"share_window": 1}])
    def test_stops_no_other_handler_while_it_waits_for_the_worker_of_one(
        self, change: dict[str, Any]
    ):
        """Failed: all subscriptions were locked meanwhile, so nothing was sent."""
        entered, go_on = Flag(), Flag()

        def count(receipt: Receipt) -> None:
            with receipt:
                entered.set()
                assert go_on.wait(60)

        policy: dict[str, Any] = {"name": "tests.count", "atomic": False, "lease": 60}
        subscribe("tests.Numbered", **policy)(count)
        emit_events("tests.Numbered")
        [message] = run_pass()
        worker = in_thread(lambda: run_message(message))
        assert entered.wait(60)

        @subscribe("tests.Numbered")
        def other() -> None: ...

        sync_subscriptions()
        emit_events("tests.Numbered")
        subscriptions.registry[:] = [
            one for one in subscriptions.registry if one.name != "tests.count"
        ]
        subscribe("tests.Numbered", **policy, **change)(count)
        deploy = in_thread(sync_subscriptions)
        wait_until_blocked(1)

        relayed: Any = in_thread(impatiently(run_pass))()
        go_on.set()
        worker()

        assert deploy() == []
        assert [one.handler for one in relayed] == ["tests.other"]


def impatiently(action: Callable[[], object]) -> Callable[[], object]:
    """Make a function return an error if it waits longer than 5 s for a lock."""

    def run() -> object:
        with connection.cursor() as cursor:
            cursor.execute("SET lock_timeout = '5s'")
        return action()

    return run


class TestOneKey:
    @pytest.mark.parametrize("is_fanned_out", [False, True], ids=["events", "deliveries"])
    def test_is_sent_in_the_order_of_its_events(self, is_fanned_out: bool):
        """Rule 18, as far as it goes without ordered handlers. Seen to fail with the order of
        `waiting_events`, or that of `claim`, reversed.
        """
        handled: list[int] = []

        @subscribe("tests.Numbered", batch=3)
        def count(number: int) -> None:
            handled.append(number)

        outbox = Outbox()
        order_id = uuid4()
        for number in range(10):
            outbox.given("tests.Numbered", order_id=order_id, number=number)
        if is_fanned_out:
            create_deliveries()

        outbox.deliver_all()

        assert handled == list(range(10))


@pytest.mark.postgresql
class TestTwoTransactionsThatDiscardDeliveriesOfOneKey:
    @pytest.fixture
    def line(self) -> list[int]:
        """The deliveries of a key: the first is dead, three are blocked."""

        @subscribe("tests.Numbered", ordered=True, attempts=1)
        def weigh(number: int) -> None:
            if number == 0:
                raise KeyError("scales")

        outbox, order_id = Outbox(), uuid4()
        for number in range(4):
            outbox.given("tests.Numbered", order_id=order_id, number=number)
        outbox.deliver_all(raise_errors=False)
        return list(Delivery.objects.order_by("event").values_list("pk", flat=True))

    def test_do_not_wait_for_each_other(self, line: list[int], monkeypatch: pytest.MonkeyPatch):
        """Failed with a deadlock: each made due what the other one discards."""
        both, recheck_soon = Barrier(2), ordering.recheck_soon

        def recheck_at_once(keys: Any, *, using: str) -> None:
            both.wait(60)
            recheck_soon(keys, using=using)

        monkeypatch.setattr(ordering, "recheck_soon", recheck_at_once)

        run_together([partial(self.discard, line[1]), partial(self.discard, line[2])])

        states = list(Delivery.objects.order_by("event").values_list("state", flat=True))
        assert states == ["dead", "discarded", "discarded", "blocked"]

    def test_also_make_deliveries_due_that_a_relay_has_locked(self, line: list[int]):
        """Otherwise it would be checked only after minutes. The first of them is released."""
        Delivery.objects.filter(state="blocked").update(due_at=timezone.now() + timedelta(hours=1))
        with transaction.atomic():
            list(Delivery.objects.select_for_update().filter(pk=line[1]))
            discarded = in_thread(partial(self.discard, line[0]))
            wait_until_blocked(1)
        assert discarded() is None

        owed = Delivery.objects.filter(due_at__lte=clock.now()).exclude(state="discarded")
        states = list(owed.order_by("event").values_list("state", flat=True))
        assert states == ["pending", "blocked", "blocked"]

    def discard(self, pk: int) -> None:
        operations.discard(operations.Choice(ids=(pk,)), by="cli:ann", reason="burnt", rate=None)


@pytest.mark.postgresql
class TestAnOperation:
    def test_stops_at_locked_rows_and_continues_when_they_are_free(self):
        """Seen to fail, with two of three, where it goes past what is locked."""

        @subscribe("tests.Numbered")
        def count() -> None: ...

        emit_events("tests.Numbered", 3)
        create_deliveries()
        Delivery.objects.update(state="dead")
        held, go_on, waits = Flag(), Flag(), Flag()

        def hold() -> None:
            with transaction.atomic():
                second = Delivery.objects.order_by("pk")[1]
                Delivery.objects.select_for_update().get(pk=second.pk)
                held.set()
                assert go_on.wait(60)

        def report(operation: Operation, waits_for: str) -> None:
            if waits_for and not waits.is_set():
                touched.append(operation.touched)
                waits.set()

        touched: list[int] = []
        holder = in_thread(hold)
        assert held.wait(60)
        choice = operations.Choice(states=("dead",))
        retried = in_thread(lambda: operations.retry(choice, by="ann", rate=None, report=report))
        waits.wait(60)
        go_on.set()

        done: Any = retried()
        assert holder() is None
        assert (touched, done.touched, done.state) == ([1], 3, "finished")
        assert Delivery.objects.filter(state="pending").count() == 3


@pytest.mark.postgresql
class TestASubscriptionThatEnds:
    """No delivery of it is left, in whichever code was about to create one."""

    @pytest.fixture(autouse=True)
    def _handler(self, own_registry: None) -> None:
        @subscribe("tests.Numbered")
        def count() -> None: ...

    def end(self) -> object:
        return operations.end("tests.count", by="ann", reason="a test")

    def test_gets_no_delivery_from_a_pass_that_had_read_it_as_active(
        self, monkeypatch: pytest.MonkeyPatch
    ):
        """Failed while `end` waited only for the relay that has the subscription's lock."""
        has_read, may_store = Flag(), Flag()

        def read_and_pause(*arguments: Any, **options: Any) -> Any:
            found = subscribers_of(*arguments, **options)
            has_read.set()
            assert may_store.wait(60)
            return found

        monkeypatch.setattr("outbox.relay.fan_out.subscribers_of", read_and_pause)
        emit_events("tests.Numbered", 1)
        with transaction.atomic():  # as another relay, which has the lock
            Subscription.objects.select_for_update(no_key=True).get()
            passed = in_thread(run_pass)
            assert has_read.wait(60)
        ended = in_thread(self.end)
        wait_until_blocked(1)
        may_store.set()
        passed()
        ended()

        assert Delivery.objects.get().state == "discarded"

    def test_stops_no_relay_while_it_waits_for_another_transaction(self):
        """Failed: relays queued behind the lock of the table, which `end` waited for."""
        emit_events("tests.Numbered")
        held, go_on = Flag(), Flag()

        def hold() -> None:
            with transaction.atomic():
                share_subscriptions(using="default")
                held.set()
                assert go_on.wait(60)

        holder = in_thread(hold)
        assert held.wait(60)
        ended = in_thread(lambda: operations.end("tests.count", by="ann", reason="a test"))
        wait_until_blocked(1)

        relayed: Any = in_thread(impatiently(run_pass))()
        go_on.set()

        assert holder() is None
        done: Any = ended()
        assert done.state == "finished"
        assert [message.handler for message in relayed] == ["tests.count"]
        assert not Subscription.objects.get().active

    def test_does_not_wait_for_another_one_whose_worker_is_in_its_receipt(self):
        """Failed: it waited for that handler, and all relays waited behind it."""
        entered, go_on, waits, is_over = Flag(), Flag(), Flag(), Flag()

        @subscribe("tests.Numbered", atomic=False, lease=60)
        def slow(receipt: Receipt) -> None:
            with receipt:
                entered.set()
                assert go_on.wait(60)

        emit_events("tests.Numbered")
        [message] = [one for one in run_pass() if one.handler == "tests.slow"]
        worker = in_thread(
            lambda: deliver(handler_name="tests.slow", pairs=message.pairs, worker="w1")
        )
        assert entered.wait(60)

        def report(_operation: Operation, waits_for: str) -> None:
            if waits_for:
                waits.set()

        def end_another() -> None:
            operations.end("tests.count", by="bob", reason="a test")
            is_over.set()

        first = in_thread(lambda: operations.end("tests.slow", by="ann", reason="x", report=report))
        waits.wait(60)
        second = in_thread(end_another)
        is_over.wait(60)
        was_over = is_over.is_set()
        go_on.set()
        worker()

        assert second() is None
        ended: Any = first()
        assert was_over
        assert waits.is_set()
        assert (ended.state, ended.touched) == ("finished", 0), "it was done when the lock was free"
        assert Delivery.objects.get(subscription__handler="tests.slow").state == "done"

    def test_gets_no_delivery_from_a_replay(self, monkeypatch: pytest.MonkeyPatch):
        """Failed while a replay asked before its lock whether the subscription is active."""
        emit_events("tests.Numbered", 1)
        Outbox().deliver_all()

        with transaction.atomic():
            assert operations.replay(operations.Choice(), by="ann", reason="a test").touched == 1
            ended = in_thread(self.end)
            wait_until_blocked(1)
        ended()

        assert Delivery.objects.get().state == "discarded"

    def test_gets_no_delivery_from_a_backfill(self, monkeypatch: pytest.MonkeyPatch):
        has_read, may_store = Flag(), Flag()
        choice = operations.Choice(handler="tests.count")

        def read_and_pause(*arguments: Any, **options: Any) -> Any:
            found = missing(*arguments, **options)
            if connection.in_atomic_block:
                has_read.set()
                assert may_store.wait(60)
            return found

        emit_events("tests.Numbered", 1)
        run_pass()
        Delivery.objects.all().delete()
        monkeypatch.setattr("outbox.operations.backfills.missing", read_and_pause)
        filled = in_thread(lambda: operations.backfill(choice, by="ann", reason="a test"))
        assert has_read.wait(60)
        ended = in_thread(self.end)
        wait_until_blocked(1)
        may_store.set()
        filled()
        ended()

        assert Delivery.objects.get().state == "discarded"

    def test_gets_no_delivery_from_a_correction(self):
        emit_events("tests.Numbered", 1)
        run_pass()
        Delivery.objects.update(state="dead")
        (dead,) = Delivery.objects.all()
        Subscription.objects.update(active=False)

        with pytest.raises(operations.CannotCorrect, match="has ended"):
            operations.correct(dead.pk, dead.event.payload, by="ann", reason="a test")

        assert Event.objects.count() == 1


@pytest.mark.postgresql
class TestTheSameReplay:
    def test_is_begun_by_one_of_two_processes(self):
        """P: seen to be begun by both, which replayed the same deliveries."""
        begin = partial(
            progress.begin,
            Operation.Action.REPLAY,
            {"handler": "tests.count"},
            by="cli:ann",
            reason="wrong prices",
            using="default",
        )
        with transaction.atomic():
            begin()
            ended = in_thread(begin)
            wait_until_blocked(1)

        assert isinstance(ended(), operations.StillRunning)
        assert Operation.objects.count() == 1
