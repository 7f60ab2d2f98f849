"""The on_commit callbacks of handlers: a failure in one harms no delivery of the message."""

from __future__ import annotations

import time
from contextlib import suppress
from contextvars import ContextVar, copy_context
from dataclasses import dataclass
from functools import partial
from uuid import UUID, uuid4

import pytest
from django.contrib.auth.models import Group
from django.db import IntegrityError, connection, transaction
from django.utils import translation

from outbox import DomainEvent, Receipt, emit, subscribe
from outbox.models import Attempt, Event, Subscription
from outbox.testing import Outbox
from outbox.worker.outcome import Result
from tests.outbox.drive import run_message, run_pass, states
from tests.processes import CEILING

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("own_registry", "no_nudge"),
]


class Numbered(DomainEvent, key="order_id"):
    order_id: UUID
    number: int


class Followed(DomainEvent, key="order_id"):
    order_id: UUID
    number: int


def emit_and_run(number: int = 1) -> list[Result]:
    outbox = Outbox()
    for one in range(number):
        outbox.given("tests.Numbered", order_id=uuid4(), number=one)
    results = []
    for message in run_pass():
        results += run_message(message)
    return results


def fail() -> None:
    raise ValueError("the cache is away")


def notify(_name: str, *, person: str) -> None:
    fail()


@dataclass
class Notification:
    """A callable whose `repr` names a person."""

    person: str

    def __call__(self) -> None:
        fail()


class TestACallbackThatRaises:
    def test_leaves_a_single_delivery_done(self, caplog: pytest.LogCaptureFixture):
        """Failed: the delivery was done, and recorded as a lost lease."""
        called = []

        @subscribe("tests.Numbered", shared_transaction=False)
        def count() -> None:
            transaction.on_commit(fail)
            transaction.on_commit(lambda: called.append(1))

        [result] = emit_and_run()

        assert result.error is None
        assert (set(states()), called) == ({"done"}, [1])
        assert not Attempt.objects.exists()
        assert Subscription.objects.get().leases_lost == 0
        assert "on_commit callback fail of tests.count failed" in caplog.text

    def test_leaves_a_delivery_with_receipt_done(self):
        @subscribe("tests.Numbered", atomic=False)
        def count(receipt: Receipt) -> None:
            with receipt:
                transaction.on_commit(fail)

        [result] = emit_and_run()

        assert result.error is None
        assert set(states()) == {"done"}
        assert not Attempt.objects.exists()

    def test_does_not_prevent_other_callbacks_if_one_rolls_back_a_savepoint(self):
        """Failed: Django replaces its list then, and all later callbacks of the batch were lost."""
        called = []

        @subscribe("tests.Numbered")
        def count(number: int) -> None:
            if number == 1:
                with suppress(IntegrityError), transaction.atomic():
                    transaction.on_commit(lambda: called.append(-1))
                    raise IntegrityError
            if number == 2:
                transaction.on_commit(fail)
            transaction.on_commit(lambda: called.append(number))

        emit_and_run(5)

        assert set(states()) == {"done"}
        assert called == [0, 1, 2, 3, 4]

    @pytest.mark.parametrize("shares", [True, False], ids=["batch", "alone"])
    def test_is_logged_without_its_arguments(self, caplog: pytest.LogCaptureFixture, shares: bool):
        """Failed: the log had the `repr` of a partial, with the person in it."""

        @subscribe("tests.Numbered", shared_transaction=shares)
        def count() -> None:
            transaction.on_commit(partial(partial(notify, "Hanako"), person="Yamada"))
            transaction.on_commit(Notification("Hanako Yamada"))

        emit_and_run(2)

        assert "on_commit callback notify of tests.count failed" in caplog.text
        assert "on_commit callback Notification of tests.count failed" in caplog.text
        assert [name for name in ("Hanako", "Yamada") if name in caplog.text] == []


class TestACallbackThatHangs:
    def test_is_interrupted_and_costs_no_neighbour_its_lease(
        self, caplog: pytest.LogCaptureFixture
    ):
        """Failed while it had no limit: its neighbours' leases passed, as deaths."""
        called = []

        def hang() -> None:
            end = time.monotonic() + CEILING
            while time.monotonic() < end:
                time.sleep(0.01)
            called.append(-1)

        @subscribe("tests.Numbered", time_limit=1.5)
        def count(number: int) -> None:
            if number == 0:
                transaction.on_commit(hang)
            transaction.on_commit(lambda: called.append(number))

        emit_and_run(3)

        assert set(states()) == {"done"}
        assert called == [0, 1, 2]
        assert "TimeLimitExceeded" in caplog.text

    def test_leaves_the_connection_unchanged(self):
        def hang_in_a_transaction() -> None:
            transaction.atomic().__enter__()
            time.sleep(30)

        @subscribe("tests.Numbered", time_limit=1.5)
        def count() -> None:
            transaction.on_commit(hang_in_a_transaction)

        emit_and_run(2)
        emit_and_run(1)

        assert not connection.in_atomic_block
        assert set(states()) == {"done"}


TENANT: ContextVar[str] = ContextVar("tenant", default="none")


def tenant_of_the_session() -> str:
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_setting('shop.tenant', true)")
        return cursor.fetchone()[0] or ""


def set_tenant_of_the_session() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SET shop.tenant = 'acme'")


@pytest.mark.parametrize("shares", [True, False], ids=["batch", "alone"])
class TestACallbackThatSetsState:
    """Failed: what it set was there in the next callback, the next delivery, and the worker."""

    def test_leaves_the_context_unchanged(self, shares: bool):
        seen = []

        def activate() -> None:
            seen.append((translation.get_language(), TENANT.get()))
            translation.activate("ja")
            TENANT.set("acme")

        @subscribe("tests.Numbered", shared_transaction=shares)
        def count() -> None:
            seen.append((translation.get_language(), TENANT.get()))
            transaction.on_commit(activate)

        def run() -> tuple[str, str]:
            emit_and_run(2)
            emit_and_run(1)
            return translation.get_language(), TENANT.get()

        assert copy_context().run(run) == ("en", "none")
        assert len(seen) == 6
        assert set(seen) == {("en", "none")}

    @pytest.mark.postgresql
    def test_leaves_the_session_unchanged(self, shares: bool):
        seen = []

        def set_tenant() -> None:
            seen.append(tenant_of_the_session())
            set_tenant_of_the_session()

        @subscribe("tests.Numbered", shared_transaction=shares)
        def count() -> None:
            seen.append(tenant_of_the_session())
            transaction.on_commit(set_tenant)

        emit_and_run(2)
        emit_and_run(1)

        assert seen == [""] * 6
        assert tenant_of_the_session() == ""


class TestAnEventThatACallbackEmits:
    @pytest.mark.parametrize("shares", [True, False], ids=["batch", "alone"])
    def test_has_the_event_of_its_delivery_as_its_cause(self, shares: bool):
        """Failed in a batch: it had none."""

        def follow(number: int) -> None:
            with transaction.atomic():
                emit(Followed(order_id=uuid4(), number=number))

        @subscribe("tests.Numbered", shared_transaction=shares)
        def count(number: int) -> None:
            transaction.on_commit(partial(follow, number))

        emit_and_run(3)

        numbered, followed = (
            Event.objects.filter(name=f"tests.{name}") for name in ("Numbered", "Followed")
        )
        causes = {event.causation_id: event.payload["number"] for event in followed}
        assert causes == {event.id: event.payload["number"] for event in numbered}
        assert {event.emitted_by for event in followed} == {"tests.count"}


class TestAHandlerThatRaisesAfterItsReceipt:
    def test_is_done_and_is_logged(self, caplog: pytest.LogCaptureFixture):
        """Failed: it was recorded as a lost lease."""

        @subscribe("tests.Numbered", atomic=False)
        def count(receipt: Receipt) -> None:
            with receipt:
                Group.objects.create(name=uuid4().hex)
            fail()

        [result] = emit_and_run()

        assert result.error is None
        assert set(states()) == {"done"}
        assert not Attempt.objects.exists()
        assert "raised after its receipt" in caplog.text
