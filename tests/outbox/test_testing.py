from __future__ import annotations

import threading
from datetime import timedelta
from unittest import mock
from uuid import UUID, uuid4

import pytest
from django.test import TestCase

from outbox import DomainEvent, Receipt, emit, subscribe
from outbox.counting import buffer, minutes
from outbox.deliveries import settlement
from outbox.models import Delivery, Minute
from outbox.testing import Outbox, OutboxTestMixin

pytestmark = pytest.mark.usefixtures("own_registry")


class Called(DomainEvent, key="thing_id"):
    thing_id: UUID


class Answered(DomainEvent, key="thing_id"):
    thing_id: UUID


class TestDeliverAll:
    def test_follows_what_handlers_emit(self):
        heard = []

        @subscribe("tests.Called")
        def answer(thing_id: UUID) -> None:
            emit(Answered(thing_id=thing_id))

        @subscribe("tests.Answered")
        def note_answer(thing_id: UUID) -> None:
            heard.append(thing_id)

        outbox = Outbox()
        outbox.given("tests.Called", thing_id=(thing_id := uuid4()))

        results = outbox.deliver_all()

        assert heard == [thing_id]
        assert [result.state for result in results] == ["done", "done"]

    def test_names_the_loop_when_events_feed_each_other_for_ever(self):
        @subscribe("tests.Called")
        def answer(thing_id: UUID) -> None:
            emit(Answered(thing_id=thing_id))

        @subscribe("tests.Answered")
        def call_again(thing_id: UUID) -> None:
            emit(Called(thing_id=thing_id))

        outbox = Outbox()
        outbox.given("tests.Called", thing_id=uuid4())

        with pytest.raises(AssertionError, match="cause each other without end") as caught:
            outbox.deliver_all()

        loop = str(caught.value).partition(": ")[2].split(" -> ")
        assert loop[0] == loop[-1]
        assert set(loop) == {"tests.Called", "tests.Answered"}

    def test_leaves_to_others_what_is_theirs(self):
        @subscribe("tests.Called", name="inventory.count")
        def count() -> None: ...

        @subscribe("tests.Called", name="payments.charge")
        def charge() -> None:
            raise AssertionError("not asked for")

        outbox = Outbox()
        outbox.given("tests.Called", thing_id=uuid4())

        outbox.deliver_all(only="inventory")

        states = dict(Delivery.objects.values_list("subscription__handler", "state"))
        assert states == {"inventory.count": "done", "payments.charge": "pending"}

    def test_refuses_to_deliver_to_nobody(self):
        @subscribe("tests.Called")
        def count() -> None: ...

        with pytest.raises(AssertionError, match=r"matches no handler .* Handlers: tests\.count"):
            Outbox().deliver_all(only="inventry")

    def test_raises_what_a_handler_raised(self):
        @subscribe("tests.Called")
        def count() -> None:
            raise ZeroDivisionError

        outbox = Outbox()
        outbox.given("tests.Called", thing_id=uuid4())

        with pytest.raises(ZeroDivisionError):
            outbox.deliver_all()

    def test_makes_no_retry_because_a_short_wait_was_drawn(self):
        """Seen to fail with the waits of production: drawn at random, some of nearly nothing."""

        @subscribe("crates.CratePacked", backoff_base=60)
        def label() -> None:
            raise ValueError("no label")

        outbox = Outbox()
        for _ in range(20):
            outbox.given("crates.CratePacked", crate_id=uuid4())

        outbox.deliver_all(raise_errors=False)

        waits = [
            row.due_at - row.failures.get().started_at
            for row in Delivery.objects.prefetch_related("failures")
        ]
        assert len(waits) == 20
        assert min(waits) >= timedelta(seconds=60)

    def test_leaves_the_waits_of_production_to_the_rest_of_the_process(self):
        """Seen to fail where the first outbox replaces them for good."""

        @subscribe("tests.Called")
        def count() -> None:
            raise ValueError("no fingers")

        before = settlement._rng
        outbox = Outbox()
        outbox.given("tests.Called", thing_id=uuid4())

        with pytest.raises(ValueError, match="no fingers"):
            outbox.deliver_all()

        assert settlement._rng is before

    def test_twice_shows_a_handler_that_acts_twice_outside(self):
        sent = []

        @subscribe("tests.Called", atomic=False)
        def send(thing_id: UUID, receipt: Receipt) -> None:
            sent.append(thing_id)
            with receipt:
                pass

        outbox = Outbox()
        outbox.given("tests.Called", thing_id=uuid4())

        outbox.deliver_all(twice=True)

        assert len(sent) == 2
        assert Delivery.objects.get().state == "done"

    def test_twice_still_raises_what_a_handler_raised(self):
        @subscribe("tests.Called")
        def count() -> None:
            raise ZeroDivisionError

        outbox = Outbox()
        outbox.given("tests.Called", thing_id=uuid4())

        with pytest.raises(ZeroDivisionError):
            outbox.deliver_all(twice=True)


class TestGiven:
    def test_needs_no_producer(self):
        seen = []

        @subscribe("elsewhere.Happened")
        def note_it(thing_id: UUID, amount: int) -> None:
            seen.append(amount)

        outbox = Outbox()
        outbox.given("elsewhere.Happened", thing_id=uuid4(), amount=7)

        outbox.deliver_all()

        assert seen == [7]

    def test_holds_a_known_producer_to_its_word(self):
        with pytest.raises(ValueError, match="thing_id"):
            Outbox().given("tests.Called", thing_id="no uuid")

    def test_asks_for_a_key_that_it_cannot_guess(self):
        with pytest.raises(AssertionError, match="needs key="):
            Outbox().given("elsewhere.Happened", amount=7)


class TestEmitted:
    def test_says_what_was_emitted_instead(self):
        @subscribe("tests.Called")
        def answer(thing_id: UUID) -> None:
            emit(Answered(thing_id=thing_id))

        outbox = Outbox()
        outbox.given("tests.Called", thing_id=uuid4())
        outbox.deliver_all()

        with pytest.raises(AssertionError, match=r"Emitted in this order: tests\.Answered"):
            outbox.emitted("tests.Called")


def timers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if isinstance(thread, threading.Timer)]


@pytest.mark.django_db
class TestWhatIsCounted:
    """A thread stored it seconds later, beside the transaction of another test, which found it."""

    def test_is_stored_by_no_thread(self):
        minutes.note_events(1)

        assert timers() == []

    def test_is_forgotten_with_the_test(self):
        with buffer.without_threads():
            minutes.note_events(1)

        minutes.flush()

        assert not Minute.objects.exists()


@pytest.mark.usefixtures("own_registry")
class TestOutboxTestMixin(OutboxTestMixin, TestCase):
    def test_works_in_an_ordinary_test_case(self):
        heard = []

        @subscribe("tests.Called")
        def note_call(thing_id: UUID) -> None:
            heard.append(thing_id)

        self.outbox.given("tests.Called", thing_id=uuid4())
        self.outbox.deliver_all(twice=True)

        assert len(heard) == 2
        assert self.outbox is self.outbox

    def test_leaves_nothing_to_a_thread(self):
        self.enterContext(mock.patch.object(buffer, "_has_threads", new=True))

        assert self.outbox
        minutes.note_events(1)

        assert timers() == []
