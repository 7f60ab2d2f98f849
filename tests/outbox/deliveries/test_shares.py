"""A handler has a limited number of deliveries of one share in flight."""

from __future__ import annotations

import random
from collections import Counter
from datetime import timedelta
from uuid import uuid4

import pytest
from django.db import connection, transaction
from django.utils import timezone

from outbox import DomainEvent, emit, operations, subscribe
from outbox.deliveries import shares
from outbox.deliveries.sync import sync_subscriptions
from outbox.models import Delivery, Event, Subscription
from outbox.monitor.diagnosis import why
from outbox.testing import Outbox
from tests.outbox.drive import run_messages, run_pass

pytestmark = pytest.mark.usefixtures("own_registry", "no_nudge")


class Written(DomainEvent, key="message_id", share="owner:{owner}"):
    message_id: str
    owner: int


class Noted(DomainEvent, key="message_id", share="shop:{shop}/owner:{owner}"):
    message_id: str
    shop: int = 1
    owner: int | None = None


@pytest.fixture(autouse=True)
def _from_the_first_share(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shares, "_stopped_at", {})


def subscribe_sender(*, share_window: int | None = 2, **policy) -> None:
    policy = {"batch": 1, **policy}

    @subscribe("tests.Written", name="tests.send", share_window=share_window, **policy)
    def send_message(owner: int) -> None: ...

    sync_subscriptions()


def emit_messages(*owners: int) -> None:
    outbox = Outbox()
    for owner in owners:
        outbox.given("tests.Written", message_id=uuid4().hex, owner=owner)


def fan_out_all() -> None:
    """Create the deliveries of all events, and send none."""
    while Event.objects.filter(fanned_out_at=None).exists():
        run_pass(only=[])


def sent() -> Counter[str | None]:
    """How many deliveries are in flight, by share."""
    rows = Delivery.objects.filter(state="sent")
    return Counter(rows.values_list("share", flat=True))


class TestAShare:
    @pytest.mark.parametrize("is_fanned_out", [False, True], ids=["new events", "backlog"])
    def test_has_a_limited_number_in_flight_and_delays_no_other_share(self, is_fanned_out: bool):
        """Failed: the window was filled with deliveries of one owner."""
        subscribe_sender(window=10)
        emit_messages(*[1] * 50, 2, 3, 3, 3)
        if is_fanned_out:
            fan_out_all()

        run_pass()

        assert sent() == {"owner:1": 2, "owner:2": 1, "owner:3": 2}

    def test_gets_its_next_delivery_when_one_is_done(self):
        subscribe_sender()
        emit_messages(1, 1, 1)
        first, second = run_pass()
        assert first.refill
        assert second.refill, "the worker nudges the relay, since more may wait for its place"

        run_messages([first])
        run_pass()

        assert sent() == {"owner:1": 2}

    def test_is_sent_in_the_order_of_its_events(self):
        subscribe_sender(share_window=1)
        emit_messages(1, 1, 1)
        order = []
        while messages := run_pass():
            [message] = messages
            order.append(Delivery.objects.get(pk=message.pairs[0][0]).event_id)
            run_messages(messages)

        assert order == sorted(Event.objects.values_list("seq", flat=True))

    def test_with_a_free_slot_does_not_use_up_the_slots_of_others(self):
        """Failed: owner 2 was sent after 300 deliveries of owner 1, which had one free place."""
        subscribe_sender(window=5, share_window=4)
        emit_messages(1, 1, 1)
        run_pass()
        emit_messages(*[1] * 20, 2)
        fan_out_all()

        run_pass()

        assert sent() == {"owner:1": 4, "owner:2": 1}

    def test_is_sent_its_next_delivery_whichever_ends_first(self):
        """Failed: twelve owners had 80, 76, 80, 80, 46, 18, 5, 5, 1, 4, 1 and 4 deliveries done."""
        subscribe_sender(window=20, share_window=4)
        emit_messages(*[owner for owner in range(10, 22) for _ in range(90)])
        fan_out_all()
        chance = random.Random(7)
        in_flight = run_pass()
        for _ in range(200):
            run_messages([in_flight.pop(chance.randrange(len(in_flight)))])
            in_flight += run_pass()

        done = Counter(Delivery.objects.filter(state="done").values_list("share", flat=True))

        assert len(done) == 12
        assert max(done.values()) < 3 * min(done.values())

    @pytest.mark.parametrize("is_fanned_out", [False, True], ids=["new event", "backlog"])
    def test_is_not_delayed_until_a_message_is_full(self, is_fanned_out: bool):
        """Failed: while a batch was in flight, a delivery of another share waited for a batch."""
        subscribe_sender(window=100, share_window=3, batch=2)
        emit_messages(*[1] * 20)
        fan_out_all()
        run_pass()
        emit_messages(2)
        if is_fanned_out:
            fan_out_all()

        run_pass()

        assert sent() == {"owner:1": 3, "owner:2": 1}

    @pytest.mark.parametrize("is_fanned_out", [False, True], ids=["new events", "backlog"])
    def test_has_separate_messages(self, is_fanned_out: bool):
        """Failed: a message held deliveries of two owners, so one waited for the other's runs."""
        subscribe_sender(batch=10)
        emit_messages(1, 1, 1, 2)
        if is_fanned_out:
            fan_out_all()

        messages = run_pass()

        owners = [
            set(Delivery.objects.filter(pk__in=dict(one.pairs)).values_list("share", flat=True))
            for one in messages
        ]
        assert sorted(owners, key=str) == [{"owner:1"}, {"owner:2"}]

    def test_without_a_key_has_no_limit(self):
        @subscribe("elsewhere.Written", name="tests.send", share_window=1, batch=1)
        def send_message() -> None: ...

        outbox = Outbox()
        for _ in range(5):
            outbox.given("elsewhere.Written", key="1")
        fan_out_all()

        run_pass()

        assert sent() == {None: 5}

    def test_gets_its_turn_if_there_are_more_shares_than_the_window_holds(self):
        subscribe_sender(window=3, share_window=1)
        emit_messages(*[1, 2, 3, 4, 5, 6] * 3)
        fan_out_all()
        turns = []
        while messages := run_pass():
            ids = [message.pairs[0][0] for message in messages]
            turns.append(set(Delivery.objects.filter(pk__in=ids).values_list("share", flat=True)))
            run_messages(messages)

        assert [len(turn) for turn in turns] == [3] * 6
        assert turns[0] | turns[1] == {f"owner:{owner}" for owner in range(1, 7)}
        assert not Delivery.objects.exclude(state="done").exists()

    def test_counts_deliveries_of_two_events_separately(self):
        """A subscription has its own count, as it has its own window."""
        subscribe_sender(share_window=1)
        emit_messages(1)
        run_pass()
        emit_messages(1, 2)

        run_pass()

        assert sent() == {"owner:1": 1, "owner:2": 1}

    def test_with_an_expired_lease_uses_no_slot(self):
        subscribe_sender(share_window=1)
        emit_messages(1, 1)
        run_pass()
        Delivery.objects.filter(state="sent").update(due_at=timezone.now() - timedelta(hours=1))

        run_pass()

        assert sent() == {"owner:1": 1}

    def test_is_named_by_why(self):
        subscribe_sender(share_window=1)
        emit_messages(1, 1)
        run_pass()
        Delivery.objects.filter(state="pending").update(
            due_at=timezone.now() - timedelta(minutes=1)
        )

        text = why(Delivery.objects.get(state="pending"))

        assert "owner:1 has 1 delivery of tests.send in flight, the maximum (share_window)" in text


class TestTheShareOfAnEvent:
    @pytest.mark.django_db
    def test_is_stored_with_the_event_also_if_it_is_delayed(self):
        Outbox()
        with transaction.atomic():
            emit(Written(message_id="1", owner=7))
            emit(Written(message_id="2", owner=8), delay=timedelta(days=1))

        outbox = Outbox()
        outbox.let_pass(timedelta(days=2))
        outbox.deliver_all()

        assert list(Event.objects.order_by("seq").values_list("share", flat=True)) == [
            "owner:7",
            "owner:8",
        ]

    @pytest.mark.parametrize(
        ("share", "problem"),
        [("owner:{who}", "names an unknown field, 'who'"), ("owner", "names no field")],
    )
    def test_is_computed_from_its_fields(self, share: str, problem: str):
        with pytest.raises(TypeError, match=problem):

            class Bad(DomainEvent, key="message_id", share=share):
                message_id: str

    def test_is_none_if_one_of_its_fields_is_none(self):
        """Failed: all events without an owner had one share, "owner:None", and one window."""
        Outbox().given("tests.Noted", message_id="1")

        assert Event.objects.get().share is None

    def test_is_not_stored_with_deliveries_of_other_handlers(self):
        subscribe_sender(share_window=None)
        emit_messages(1)
        run_pass()

        assert Delivery.objects.get().share is None

    @pytest.mark.parametrize("bad", [0, -1, 1.5, "2"])
    def test_needs_a_whole_number_as_its_window(self, bad: object):
        with pytest.raises(ValueError, match="share_window"):
            subscribe("tests.Written", share_window=bad)(lambda: None)  # type: ignore[arg-type]


class TestADeploy:
    def test_that_adds_the_limit_applies_it_to_owed_deliveries(self):
        subscribe_sender(share_window=None)
        emit_messages(1, 1, 1)
        fan_out_all()
        from outbox import subscriptions

        subscriptions.registry.clear()
        subscribe_sender(share_window=1)

        run_pass()

        assert sent() == {"owner:1": 1}
        assert Subscription.objects.get().share_window == 1

    def test_that_removes_the_limit_sends_all_deliveries(self):
        subscribe_sender(share_window=1)
        emit_messages(1, 1, 1)
        fan_out_all()
        from outbox import subscriptions

        subscriptions.registry.clear()
        subscribe_sender(share_window=None)

        run_pass()

        assert sent() == {None: 3}

    def test_applies_the_limit_to_its_backfill(self):
        emit_messages(1, 1, 1)
        fan_out_all()
        subscribe_sender(share_window=1)
        operations.backfill(operations.Choice(handler="tests.send"), by="ann", reason="a test")

        run_pass()

        assert sent() == {"owner:1": 1}


@pytest.mark.postgresql
class TestABacklogOfOneShare:
    def test_is_not_read_for_the_others(self):
        """Failed with a statement that ranks all that is due."""
        subscribe_sender(share_window=1, window=100)
        emit_messages(*[1] * 2000, 2)
        while Event.objects.filter(fanned_out_at=None).exists():
            fan_out_all()
        with connection.cursor() as cursor:
            cursor.execute("ANALYZE outbox_delivery")
        row = Subscription.objects.get()
        plans: list[str] = []

        def explain(execute, sql, params, many, context):
            if "RECURSIVE shares" in sql:
                with context["connection"].connection.cursor() as raw:
                    raw.execute(f"EXPLAIN (ANALYZE, BUFFERS) {sql}", params)
                    plans.extend(line for (line,) in raw.fetchall())
            return execute(sql, params, many, context)

        with transaction.atomic(), connection.execute_wrapper(explain):
            found = shares.claimable(row, Counter(), limit=100, now=timezone.now(), using="default")

        assert Counter(one.share for one in found) == {"owner:1": 1, "owner:2": 1}
        plan = "\n".join(plans)
        assert "Seq Scan on outbox_delivery" not in plan
        assert "outbox_delivery_share" in plan
