"""The size of messages and windows: the relay sends whole messages while workers are busy."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from uuid import uuid4

import pytest
import time_machine
from django.db.models import F
from django.utils import timezone

from outbox import Receipt, operations, subscribe
from outbox.deliveries.decisions import (
    free_slots,
    message_size,
    next_window,
    probed_window,
    whole_messages,
)
from outbox.deliveries.transient_errors import DatabaseAccess
from outbox.models import Delivery, Event, Subscription
from outbox.relay import dispatch
from outbox.relay.passes import Pace, relay
from outbox.subscriptions import registry
from outbox.testing import Outbox
from outbox.transports.base import Message
from outbox.worker.start import start
from tests.outbox.drive import run_messages, run_pass


def store_events(number: int) -> None:
    Event.objects.bulk_create(
        Event(
            name="shops.Ordered",
            key=str(number),
            payload={},
            emitted_at=timezone.now(),
            correlation_id=uuid4(),
        )
        for number in range(number)
    )


class TestFreeSlots:
    @pytest.mark.parametrize(
        ("in_flight", "room"),
        [(0, 500), (49, 451), (50, 450), (375, 125), (376, 0), (500, 0), (600, 0)],
    )
    def test_are_counted_until_less_than_a_quarter_is_free(self, in_flight: int, room: int):
        assert free_slots(window=500, in_flight=in_flight, batch=50) == room

    @pytest.mark.parametrize("in_flight", [0, 1, 2])
    def test_are_counted_completely_in_a_window_smaller_than_a_message(self, in_flight: int):
        """Seen to fail without `in_flight >= batch`: it would stand still until it is empty."""
        assert free_slots(window=3, in_flight=in_flight, batch=50) == 3 - in_flight

    def test_are_all_counted_if_a_message_has_one_delivery(self):
        """Seen to fail with a quarter that has to be free: a quarter of the workers was idle."""
        assert free_slots(window=16, in_flight=15, batch=1) == 1
        assert free_slots(window=16, in_flight=16, batch=1) == 0


class TestWholeMessages:
    @pytest.mark.parametrize(("in_flight", "number"), [(0, 120), (49, 120), (50, 100), (400, 100)])
    def test_are_sent_without_a_remainder_while_others_are_in_flight(
        self, in_flight: int, number: int
    ):
        assert whole_messages(120, in_flight=in_flight, batch=50) == number


class TestTheSizeOfAMessage:
    @pytest.mark.parametrize(
        ("window_now", "size"), [(10, 50), (500, 50), (1000, 100), (2000, 200), (4000, 200)]
    )
    def test_is_a_tenth_of_a_grown_window(self, window_now: int, size: int):
        assert message_size(window_now=window_now, batch=200) == size

    def test_is_limited_by_the_handler(self):
        assert message_size(window_now=2000, batch=1) == 1

    @pytest.mark.parametrize(("window_now", "size"), [(50, 50), (500, 250), (2000, 1000)])
    def test_of_a_bulk_handler_is_half_the_window(self, window_now: int, size: int):
        assert message_size(window_now=window_now, batch=1000, is_bulk=True) == size


def window_after(
    window_now: int,
    *,
    room: int = 0,
    lost: int = 0,
    is_quick: bool = False,
    has_due: bool = True,
    window: int = 2000,
) -> int:
    return next_window(
        window=window,
        window_now=window_now,
        lost=lost,
        room=room,
        has_due=has_due,
        is_quick=is_quick,
        first=500,
    )


class TestAWindow:
    def test_grows_when_it_is_empty_and_earlier_for_a_quick_handler(self):
        assert window_after(500, room=376) == 1000
        assert window_after(500, room=125, is_quick=True) == 1000
        assert window_after(1000, room=250, is_quick=True) == 2000

    @pytest.mark.parametrize("window_now", [1, 2, 3])
    def test_does_not_grow_while_it_is_full_however_small_it_is(self, window_now: int):
        """Seen to fail without `max(1, ...)`: a quarter of three is nothing."""
        assert window_after(window_now, room=0, is_quick=True) == window_now

    def test_does_not_grow_while_it_is_full(self):
        assert window_after(500, room=124, is_quick=True) == 500
        assert window_after(500, room=375) == 500

    def test_never_exceeds_the_limit_of_the_handler(self):
        assert window_after(60, room=60, is_quick=True, window=80) == 80
        assert window_after(80, room=80, is_quick=True, window=80) == 80

    def test_returns_to_its_first_size_when_nothing_waits(self):
        assert window_after(2000, room=2000, is_quick=True, has_due=False) == 500
        assert window_after(40, room=40, has_due=False) == 40

    def test_keeps_its_size_while_a_backlog_waits(self):
        assert window_after(2000, room=0, is_quick=False) == 2000

    def test_halves_when_messages_are_lost_but_holds_at_least_one_delivery(self):
        assert window_after(2000, lost=1, is_quick=True, room=2000) == 1000
        assert window_after(60, lost=1) == 30
        assert window_after(2, lost=1, window=4) == 1
        assert window_after(1, lost=1) == 1


class TestAProbedWindow:
    def test_is_a_quarter_larger_and_at_least_by_one_message(self):
        assert probed_window(window=2000, window_now=40, message=1, first=500) == 50
        assert probed_window(window=2000, window_now=2, message=1, first=500) == 3
        assert probed_window(window=2000, window_now=50, message=50, first=500) == 100

    def test_is_at_most_twice_as_large(self):
        """Seen to fail with a step of a message: retries are sent alone, so it was 50 messages."""
        assert probed_window(window=2000, window_now=1, message=50, first=500) == 2
        assert probed_window(window=2000, window_now=8, message=50, first=500) == 16

    def test_does_not_exceed_the_first_window_or_the_limit_of_the_handler(self):
        assert probed_window(window=2000, window_now=480, message=50, first=500) == 500
        assert probed_window(window=8, window_now=7, message=4, first=500) == 8
        assert probed_window(window=2000, window_now=1000, message=100, first=500) == 1000


@pytest.mark.usefixtures("own_registry")
class TestAReducedWindowOfASlowHandler:
    """Runs take five seconds. Seen to fail with a window that grew only when it ran dry."""

    @pytest.fixture(autouse=True)
    def backlog(self, own_registry: None) -> Iterator[None]:
        @subscribe("shops.Ordered", atomic=False, window=100)
        def call(receipt: Receipt) -> None: ...

        with time_machine.travel(timezone.now(), tick=False):
            Outbox()
            store_events(20)
            Subscription.objects.update(window_now=4)
            self.start(run_pass())
            sent = Delivery.objects.filter(state="sent")
            sent.update(due_at=F("due_at") - timedelta(seconds=5))
            yield

    def start(self, messages: list[Message]) -> None:
        for message in messages:
            start(registry[0], message.pairs, worker="w1", access=DatabaseAccess("default"))

    def end_one(self) -> None:
        done = Delivery.objects.filter(state="sent", started_token=F("token")).order_by("pk")[0]
        Delivery.objects.filter(pk=done.pk).update(state="done")

    def test_grows_while_each_message_is_started_at_once(self):
        self.end_one()

        assert len(run_pass()) == 2
        assert Subscription.objects.get().window_now == 5

    def test_grows_in_a_pass_that_a_nudge_has_begun(self):
        """In a quiet system there is no other: afterwards the window is full again."""
        self.end_one()
        pace, sent = Pace(), list[Message]()
        assert not pace.may_begin(is_nudged=False)

        relay(publish=sent.append, is_nudged=True, pace=pace)

        assert len(sent) == 2
        assert Subscription.objects.get().window_now == 5

    def test_does_not_grow_while_a_message_waits_for_a_worker(self):
        self.end_one()
        run_pass()  # no worker starts the new messages
        self.end_one()

        assert len(run_pass()) == 1
        assert Subscription.objects.get().window_now == 5

    def test_does_not_grow_beyond_the_limit_of_the_handler(self):
        Subscription.objects.update(window=4)
        self.end_one()

        assert len(run_pass()) == 1
        assert Subscription.objects.get().window_now == 4

    def test_does_not_grow_without_a_backlog(self):
        Delivery.objects.filter(state="pending").update(state="done")
        self.end_one()

        assert run_pass() == []
        assert Subscription.objects.get().window_now == 4

    def test_does_not_grow_while_the_breaker_is_open(self):
        now = timezone.now()
        later = now + timedelta(seconds=30)
        Subscription.objects.update(breaker_opened_at=now, breaker_probe_at=later)
        self.end_one()

        assert run_pass() == []
        assert Subscription.objects.get().window_now == 4

    def test_grows_until_a_message_waits_for_a_worker(self):
        """Eight workers: they are all busy, and one or two messages wait."""
        for _ in range(12):
            self.end_one()
            run_pass()
            running = Delivery.objects.filter(state="sent", started_token=F("token")).count()
            waiting = Delivery.objects.filter(state="sent", started_token__lt=F("token"))
            for row in list(waiting.order_by("pk")[: 8 - running]):
                pair = [(row.pk, row.token)]
                start(registry[0], pair, worker="w1", access=DatabaseAccess("default"))
            in_flight = Delivery.objects.filter(state="sent")
            in_flight.update(due_at=F("due_at") - timedelta(seconds=2))

        assert 9 <= Subscription.objects.get().window_now <= 10


@pytest.mark.usefixtures("own_registry")
class TestASlowQueue:
    """Each message is older than a lease when it arrives. Deliveries with attempts are sent alone.

    Seen to fail with messages that start nothing once another one was sent: none was ever done.
    """

    def test_of_a_slow_broker_delivers_the_retries_of_many_handlers(self):
        """Within a lease it delivers eight messages, and ten handlers send one at least."""
        for number in range(10):

            @subscribe("shops.Ordered", name=f"shops.count_{number}")
            def count() -> None: ...

        self.run(seconds=61, per_step=8, steps=80)

    def test_shared_with_long_runs_delivers_what_was_sent_three_leases_ago(self):
        @subscribe("shops.Ordered")
        def count() -> None: ...

        self.run(seconds=61, per_step=8, steps=40, delay=3)

    def run(self, *, seconds: float, per_step: int, steps: int, delay: int = 0) -> None:
        with time_machine.travel(timezone.now(), tick=False) as traveller:
            Outbox()
            store_events(8)
            run_pass()
            Delivery.objects.update(state="pending", attempts=1, due_at=timezone.now())
            queue, sent = list[Message](), list[list[Message]]()
            for _step in range(steps):
                sent.append(run_pass())
                if len(sent) > delay:
                    queue += sent.pop(0)
                run_messages(queue[:per_step])
                del queue[:per_step]
                traveller.shift(seconds)

        assert not Delivery.objects.exclude(state="done").exists()


@pytest.mark.usefixtures("own_registry")
class TestTheRemainderOfAMessage:
    def test_is_sent_when_less_than_a_message_is_in_flight(self):
        """Seen to fail with `whole_messages` asked whatever is in flight."""

        @subscribe("shops.Ordered", batch=2, window=10)
        def count() -> None: ...

        outbox = Outbox()
        for number in range(3):
            outbox.given("shops.Ordered", order_id=uuid4(), number=number)
            run_pass()
        sent = Delivery.objects.filter(state="sent")
        assert sent.count() == 2

        Delivery.objects.filter(pk=sent.order_by("pk")[0].pk).update(state="done")
        run_pass()

        assert not Delivery.objects.filter(state="pending").exists()


@pytest.mark.usefixtures("own_registry")
class TestNewDeliveriesBesideThoseOfDeadWorkers:
    """Failed: they waited until the leases of the others had passed, and idle workers with them."""

    @pytest.mark.parametrize(
        ("batch", "window", "dead", "new"), [(10, 100, 10, 9), (20, 100, 40, 15), (10, 20, 16, 3)]
    )
    def test_are_sent_after_a_second(self, batch: int, window: int, dead: int, new: int):
        @subscribe("shops.Ordered", batch=batch, window=window)
        def count() -> None: ...

        with time_machine.travel(timezone.now(), tick=False) as clock:
            Outbox()
            store_events(dead)
            assert sum(len(message.pairs) for message in run_pass()) == dead
            store_events(new)
            run_pass()

            clock.shift(0.5)
            assert run_pass(is_nudged=True) == []
            clock.shift(0.5)
            assert run_pass(is_nudged=True) == []
            clock.shift(0.5)
            [message] = run_pass()

        assert len(message.pairs) == new

    def test_become_whole_messages_within_a_second(self):
        @subscribe("shops.Ordered", batch=10, window=100)
        def count() -> None: ...

        with time_machine.travel(timezone.now(), tick=False) as clock:
            Outbox()
            store_events(10)
            run_pass()
            sizes = list[int]()
            for _ in range(20):
                store_events(4)
                sizes += [len(message.pairs) for message in run_pass()]
                clock.shift(0.1)

        assert sizes == [10] * 7


@pytest.mark.usefixtures("own_registry")
class TestTheBacklogOfAResumedHandler:
    def test_is_released_by_consecutive_passes(self, monkeypatch: pytest.MonkeyPatch):
        """Failed under nudges: once per `POLL_SECONDS`, since a brief pass reads none of it."""
        monkeypatch.setattr(dispatch, "_PARKED_PER_PASS", 2)

        @subscribe("shops.Ordered", share_window=1)
        def count() -> None: ...

        Outbox()
        operations.pause("tests.count", by="cli:ann", reason="repair")
        store_events(6)
        run_pass()
        operations.resume("tests.count", by="cli:ann")
        assert Delivery.objects.filter(state="parked").count() == 6
        passes = iter(range(4))

        relay(
            publish=lambda message: None,
            pace=Pace(lambda seconds: True),
            is_wanted=lambda: next(passes, None) is not None,
        )

        assert not Delivery.objects.filter(state="parked").exists()


@pytest.mark.usefixtures("own_registry")
class TestADeliveryWhoseLeaseHasPassed:
    @pytest.mark.parametrize("is_nudged", [True, False])
    def test_has_its_place_in_the_window_until_a_pass_settles_it(self, is_nudged: bool):
        """Failed after a nudge: the late message and the next one ran at the same time."""

        @subscribe("shops.Ordered", batch=1, window=1)
        def count() -> None: ...

        Outbox()
        store_events(2)
        run_pass()
        Delivery.objects.filter(state="sent").update(due_at=timezone.now())

        messages = run_pass(is_nudged=is_nudged)

        assert Delivery.objects.filter(state="sent").count() == 1
        assert len(messages) == (0 if is_nudged else 1)

    def test_is_settled_by_consecutive_passes_if_there_are_many(
        self, monkeypatch: pytest.MonkeyPatch
    ):
        """Failed with a window that they fill: once per poll, as such a pass sends nothing."""
        monkeypatch.setattr(dispatch, "_LAPSED_PER_PASS", 2)

        @subscribe("shops.Ordered", batch=1, window=8)
        def count() -> None: ...

        Outbox()
        store_events(8)
        run_pass()
        Delivery.objects.filter(state="sent").update(due_at=timezone.now())
        lapsed = Delivery.objects.filter(state="sent", token=1)
        assert lapsed.count() == 8

        relay(publish=lambda message: None)

        assert not lapsed.exists()

    def test_has_its_place_in_the_share_window(self):
        @subscribe("shops.Ordered", share_window=1)
        def count() -> None: ...

        Outbox()
        store_events(2)
        Event.objects.update(share="owner:1")
        run_pass()
        Delivery.objects.filter(state="sent").update(due_at=timezone.now())

        assert run_pass(is_nudged=True) == []


class TestTheBacklogOfAQuickHandler:
    """Seen to fail with a window that stays as it was, and with one that grows for anybody."""

    @pytest.fixture(autouse=True)
    def backlog(self, own_registry: None) -> Iterator[None]:
        @subscribe("shops.Ordered", window=2000, batch=200)
        def count() -> None: ...

        # At one moment: how long something has been in flight is for each test to say.
        with time_machine.travel(timezone.now(), tick=False):
            Outbox()
            store_events(1500)
            for _ in range(3):  # each fans out 500; the first sends as many
                run_pass()
            yield

    def deliver_some(self) -> None:
        first = Delivery.objects.filter(state="sent").order_by("pk").values("pk")[:200]
        Delivery.objects.filter(pk__in=first).update(state="done")

    def test_is_sent_in_larger_messages(self):
        self.deliver_some()

        messages = run_pass()

        assert Subscription.objects.get().window_now == 1000
        assert [len(message.pairs) for message in messages] == [100] * 7

    def test_is_sent_in_usual_messages_if_a_delivery_stays_in_flight_for_long(self):
        self.deliver_some()
        longer = F("due_at") - timedelta(seconds=2)
        Delivery.objects.filter(state="sent").update(due_at=longer)

        messages = run_pass()

        assert Subscription.objects.get().window_now == 500
        assert [len(message.pairs) for message in messages] == [50] * 4

    def test_is_sent_in_usual_messages_if_started_deliveries_take_long(self):
        self.deliver_some()
        sent = Delivery.objects.filter(state="sent")
        pairs = [(row.pk, row.token) for row in sent]
        start(registry[0], pairs, worker="w1", access=DatabaseAccess("default"))
        assert sent.filter(due_at__gt=timezone.now() + timedelta(seconds=61)).count() == 300
        sent.update(due_at=F("due_at") - timedelta(seconds=2))

        run_pass()

        assert Subscription.objects.get().window_now == 500

    def test_restores_the_window_when_it_is_done(self):
        Subscription.objects.update(window_now=2000)
        while messages := run_pass():
            run_messages(messages)

        store_events(1)
        run_pass()

        assert Subscription.objects.get().window_now == 500
