from __future__ import annotations

import subprocess
import sys
import threading
from datetime import timedelta
from unittest import mock
from uuid import UUID, uuid4

import pytest
from asgiref.sync import sync_to_async
from django.test import TestCase
from pydantic import ConfigDict

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


class TestWithoutPytest:
    def test_the_mixin_can_be_imported(self):
        """Failed: the test that `outbox startapp` writes needed pytest."""
        code = (
            "import sys; sys.modules['pytest'] = None\n"
            "import django; django.setup()\n"
            "from outbox.testing import OutboxTestMixin\n"
            "try:\n"
            "    from outbox.testing import SinkContract\n"
            "except ModuleNotFoundError as error:\n"
            "    print(error)\n"
        )

        ended = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        )

        assert "pytest" in ended.stdout


class TestDeliverAll:
    def test_also_delivers_events_that_handlers_emit(self):
        handled = []

        @subscribe("tests.Called")
        def answer(thing_id: UUID) -> None:
            emit(Answered(thing_id=thing_id))

        @subscribe("tests.Answered")
        def note_answer(thing_id: UUID) -> None:
            handled.append(thing_id)

        outbox = Outbox()
        outbox.given("tests.Called", thing_id=(thing_id := uuid4()))

        results = outbox.deliver_all()

        assert handled == [thing_id]
        assert [result.state for result in results] == ["done", "done"]

    def test_names_the_cycle_of_events_that_never_ends(self):
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

    def test_leaves_deliveries_of_other_handlers_owed(self):
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

    def test_refuses_a_selection_without_a_handler(self):
        @subscribe("tests.Called")
        def count() -> None: ...

        with pytest.raises(AssertionError, match=r"matches no handler .* Handlers: tests\.count"):
            Outbox().deliver_all(only="inventry")

    def test_raises_the_error_of_a_handler(self):
        @subscribe("tests.Called")
        def count() -> None:
            raise ZeroDivisionError

        outbox = Outbox()
        outbox.given("tests.Called", thing_id=uuid4())

        with pytest.raises(ZeroDivisionError):
            outbox.deliver_all()

    def test_does_not_retry_after_a_short_random_backoff(self):
        """Seen to fail with the backoff of production, which is random and may be close to zero."""

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

    def test_leaves_the_backoff_of_the_rest_of_the_process_unchanged(self):
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

    def test_twice_reveals_a_handler_that_repeats_an_external_effect(self):
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

    def test_twice_still_raises_the_error_of_a_handler(self):
        @subscribe("tests.Called")
        def count() -> None:
            raise ZeroDivisionError

        outbox = Outbox()
        outbox.given("tests.Called", thing_id=uuid4())

        with pytest.raises(ZeroDivisionError):
            outbox.deliver_all(twice=True)


class TestGiven:
    def test_requires_no_emitting_app(self):
        seen = []

        @subscribe("elsewhere.Happened")
        def note_it(thing_id: UUID, amount: int) -> None:
            seen.append(amount)

        outbox = Outbox()
        outbox.given("elsewhere.Happened", thing_id=uuid4(), amount=7)

        outbox.deliver_all()

        assert seen == [7]

    def test_validates_the_payload_of_a_declared_event(self):
        with pytest.raises(ValueError, match="thing_id"):
            Outbox().given("tests.Called", thing_id="no uuid")

    def test_requires_the_key_of_an_undeclared_event(self):
        with pytest.raises(AssertionError, match="needs key="):
            Outbox().given("elsewhere.Happened", amount=7)


class TestEmitted:
    def test_lists_the_emitted_events_if_it_fails(self):
        @subscribe("tests.Called")
        def answer(thing_id: UUID) -> None:
            emit(Answered(thing_id=thing_id))

        outbox = Outbox()
        outbox.given("tests.Called", thing_id=uuid4())
        outbox.deliver_all()

        with pytest.raises(AssertionError, match=r"Emitted in this order: tests\.Answered"):
            outbox.emitted("tests.Called")

    def test_reads_strict_fields_as_handlers_do(self):
        """Failed: "Input should be an instance of UUID"."""

        class Signed(DomainEvent, key="thing_id"):
            model_config = ConfigDict(strict=True)
            thing_id: UUID

        @subscribe("tests.Called")
        def sign(thing_id: UUID) -> None:
            emit(Signed(thing_id=thing_id))

        outbox = Outbox()
        outbox.given("tests.Called", thing_id=(thing_id := uuid4()))
        outbox.deliver_all()

        assert outbox.emitted("tests.Signed") == Signed(thing_id=thing_id)


def timers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if isinstance(thread, threading.Timer)]


@pytest.mark.django_db
class TestCounts:
    """A thread stored it seconds later, beside the transaction of another test, which found it."""

    def test_are_stored_by_no_thread(self):
        minutes.note_events(1)

        assert timers() == []

    def test_are_discarded_after_the_test(self):
        with buffer.without_threads():
            minutes.note_events(1)

        minutes.flush()

        assert not Minute.objects.exists()


@pytest.mark.usefixtures("own_registry")
class TestOutboxTestMixin(OutboxTestMixin, TestCase):
    def test_works_in_an_ordinary_test_case(self):
        handled = []

        @subscribe("tests.Called")
        def note_call(thing_id: UUID) -> None:
            handled.append(thing_id)

        self.outbox.given("tests.Called", thing_id=uuid4())
        self.outbox.deliver_all(twice=True)

        assert len(handled) == 2
        assert self.outbox is self.outbox

    async def test_works_in_an_async_test_through_a_thread(self):
        handled = []

        @subscribe("tests.Called")
        def note_call(thing_id: UUID) -> None:
            handled.append(thing_id)

        @sync_to_async
        def deliver() -> None:
            self.outbox.given("tests.Called", thing_id=uuid4())
            self.outbox.deliver_all()

        await deliver()

        assert len(handled) == 1

    def test_stores_counts_without_a_thread(self):
        self.enterContext(mock.patch.object(buffer, "_has_threads", new=True))

        assert self.outbox
        minutes.note_events(1)

        assert timers() == []
