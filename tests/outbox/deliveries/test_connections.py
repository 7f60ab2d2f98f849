"""A handler's run leaves the database connections unchanged, wherever it is interrupted."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from types import FrameType
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.contrib.auth.models import Group
from django.db import connection, transaction
from django.db import transaction as django_transaction

from outbox import DomainEvent, Receipt, subscribe
from outbox.deliveries.connections import drop_all, unchanged_connections
from outbox.deliveries.time_limit import TimeLimitExceeded, time_limit
from outbox.models import Attempt, Delivery
from outbox.testing import Outbox
from tests.outbox.drive import run_messages, run_pass
from tests.threads import aside

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("own_registry", "no_nudge"),
]


class Packed(DomainEvent, key="parcel_id"):
    parcel_id: UUID


class Interruption:
    """Interrupts the code that it traces at the n-th line that Django's `atomic()` executes."""

    def __init__(self) -> None:
        self.line = 0
        self.is_done = False
        self._left = 0

    def __enter__(self) -> None:
        self._left, self.is_done = self.line, False
        sys.settrace(self._trace)

    def __exit__(self, *_: object) -> None:
        sys.settrace(None)

    def _trace(self, frame: FrameType, event: str, _argument: Any) -> Callable[..., Any] | None:
        if frame.f_code.co_filename != django_transaction.__file__:
            return None
        if event == "line":
            self._left -= 1
            if self._left < 0:
                self.is_done = True
                signal.raise_signal(signal.SIGALRM)  # as when the time is up
        return self._trace

    def at_each_line(self) -> Iterator[int]:
        """Yield the number of each line, until one was not reached."""
        for self.line in range(1000):
            yield self.line
            if not self.is_done:
                return
        raise AssertionError("This many lines? The interruption does not move on.")


@pytest.fixture(autouse=True)
def _good_connection_afterwards(own_registry: None) -> Iterator[None]:
    """Leave no other test a connection that seems to be in a transaction."""
    yield
    drop_all()


@pytest.fixture
def interruption() -> Iterator[Interruption]:
    before = sys.gettrace()  # a debugger's, or that of a coverage report
    yield Interruption()
    sys.settrace(before)


def create_groups() -> None:
    """Enter and leave `atomic()` as `get_or_create` does, alone and nested."""
    Group.objects.get_or_create(name=uuid4().hex)
    with transaction.atomic(), transaction.atomic(savepoint=False):
        Group.objects.create(name=uuid4().hex)


def emit_and_run(number: int = 1) -> None:
    outbox = Outbox()
    for _ in range(number):
        outbox.given("tests.Packed", parcel_id=uuid4())
    run_messages(run_pass())


def is_stored_elsewhere(number: int) -> None:
    """Assert on another connection that nothing is done, and that each failure is stored."""

    def look() -> None:
        assert set(Delivery.objects.values_list("state", flat=True)) == {"pending"}
        assert set(Attempt.objects.values_list("exception", flat=True)) == {"TimeLimitExceeded"}
        assert Attempt.objects.count() == number
        assert not Group.objects.exists()

    aside(look)


def start_again() -> None:
    Attempt.objects.all().delete()
    Delivery.objects.all().delete()
    Group.objects.all().delete()


class TestAnInterruptionWithinDjangosAtomic:
    """Failed at 13 lines: the worker took its connection for a test's, and committed no more."""

    def test_leaves_an_atomic_handler_in_no_transaction(self, interruption: Interruption):
        @subscribe("tests.Packed", shared_transaction=False)
        def pack() -> None:
            with interruption:
                create_groups()

        for line in interruption.at_each_line():
            emit_and_run()
            assert not connection.in_atomic_block, line
            if interruption.is_done:
                is_stored_elsewhere(1)
            start_again()
        assert interruption.line > 100

    def test_leaves_a_batch_in_no_transaction(self, interruption: Interruption):
        @subscribe("tests.Packed")
        def pack() -> None:
            with interruption:
                create_groups()

        for line in interruption.at_each_line():
            emit_and_run(2)
            assert not connection.in_atomic_block, line
            if interruption.is_done:
                is_stored_elsewhere(2)
            start_again()
        assert interruption.line > 100

    def test_leaves_a_handler_with_receipt_in_no_transaction(self, interruption: Interruption):
        @subscribe("tests.Packed", atomic=False)
        def pack(receipt: Receipt) -> None:
            with interruption:
                create_groups()
            with receipt:
                pass

        for line in interruption.at_each_line():
            emit_and_run()
            assert not connection.in_atomic_block, line
            if interruption.is_done:
                aside(lambda: self.has_failed())
            start_again()
        assert interruption.line > 100

    def has_failed(self) -> None:
        assert Delivery.objects.get().state == "pending"
        assert Attempt.objects.get().exception == "TimeLimitExceeded"

    def test_keeps_the_transaction_around_the_run(self, interruption: Interruption):
        """A test or a dry run opens this transaction. Earlier writes stay."""
        for line in interruption.at_each_line():
            with transaction.atomic():
                Group.objects.create(name="kept")
                with suppress(TimeLimitExceeded), transaction.atomic():
                    self.run(interruption)
                assert [group.name for group in Group.objects.all()] == ["kept"], line
            start_again()
        assert interruption.line > 100

    def run(self, interruption: Interruption) -> None:
        with unchanged_connections(), time_limit(60), interruption:
            create_groups()
        raise TimeLimitExceeded


class TestAHandlerThatLeavesATransactionOpen:
    def test_has_failed_and_leaves_a_usable_connection(self):
        """Failed with `done`, while nothing that the handler wrote was stored."""

        @subscribe("tests.Packed")
        def pack() -> None:
            Group.objects.create(name=uuid4().hex)
            transaction.atomic().__enter__()

        emit_and_run(2)

        assert not connection.in_atomic_block
        assert set(Attempt.objects.values_list("exception", flat=True)) == {"TransactionLeftOpen"}
        assert not Group.objects.exists()

    def test_has_failed_if_it_turns_autocommit_off(self):
        @subscribe("tests.Packed", atomic=False)
        def pack(receipt: Receipt) -> None:
            transaction.set_autocommit(False)
            raise ValueError("no receipt")

        emit_and_run()

        assert connection.get_autocommit()
        assert Attempt.objects.get().exception == "ValueError"
