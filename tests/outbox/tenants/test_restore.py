"""Each run of a handler has the tenant of its event, and no other one."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any
from uuid import uuid4

import pytest
from django.db import transaction
from pytest_django import Settings

from outbox import BulkDelivery, DomainEvent, Receipt, emit, operations, subscribe, tenants
from outbox.context import CorrelationFilter
from outbox.emission import aemit
from outbox.models import Attempt, Delivery, Event
from outbox.privacy import cleaning
from outbox.receipt import Target
from outbox.testing import Outbox
from tests.outbox.drive import run_messages, run_pass, states

from . import hooks
from .conftest import Configure

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("own_registry", "no_nudge", "tenants"),
]

#: In this order, so that deliveries of one tenant are apart.
TENANTS = ("acme", None, "bolt", "acme", None, "bolt")


class Moved(DomainEvent, key="box"):
    box: str


class Noted(DomainEvent, key="box"):
    box: str


def emit_in(*tenants: str | None) -> None:
    """Emit an event for each tenant, whose key begins with the tenant's name."""
    for tenant in tenants:
        with hooks.restore(tenant), transaction.atomic():
            emit(Moved(box=f"{tenant} {uuid4().hex[:20]}"))


def run_all() -> None:
    """Relay and run, in a thread that has a tenant of its own."""
    with hooks.restore("of the thread"):
        while messages := run_pass():
            run_messages(messages)
        assert hooks.current.get() == "of the thread"


def name_of(box: str) -> str | None:
    found = box.partition(" ")[0]
    return None if found == "None" else found


class TestTheTenantOfAnEvent:
    @pytest.mark.parametrize("shares", [True, False], ids=["batch", "alone"])
    def test_is_current_in_its_handler(self, shares: bool):
        seen = []

        @subscribe("tests.Moved", name="tests.see", shared_transaction=shares, share_window=100)
        def see(box: str) -> None:
            seen.append((name_of(box), hooks.capture()))

        Outbox()
        emit_in(*TENANTS)
        run_all()

        assert sorted(map(str, seen)) == sorted(str((one, one)) for one in TENANTS)

    def test_is_current_in_a_batch_of_several_tenants(self):
        """One message, since no share separates them."""
        seen = []

        @subscribe("tests.Moved", name="tests.see")
        def see(box: str) -> None:
            seen.append((name_of(box), hooks.capture()))

        Outbox()
        emit_in(*TENANTS)
        Event.objects.update(share=None)
        messages = run_pass()
        run_messages(messages)

        assert [len(one.pairs) for one in messages] == [len(TENANTS)]
        assert sorted(map(str, seen)) == sorted(str((one, one)) for one in TENANTS)

    def test_is_current_in_an_async_handler(self):
        seen = []

        @subscribe("tests.Moved", name="tests.see")
        async def see(box: str) -> None:
            seen.append((name_of(box), hooks.capture()))
            await aemit(Noted(box=box))

        Outbox()
        emit_in("acme", "bolt")
        run_all()

        assert set(seen) == {("acme", "acme"), ("bolt", "bolt")}
        assert tenants_of("tests.Noted") == {"acme", "bolt"}

    def test_is_current_before_and_in_the_receipt_of_a_handler(self):
        seen = []

        @subscribe("tests.Moved", name="tests.see", atomic=False)
        def see(box: str, receipt: Receipt) -> None:
            seen.append((name_of(box), hooks.capture()))
            with receipt:
                seen.append((name_of(box), hooks.capture()))
                emit(Noted(box=box))

        Outbox()
        emit_in("acme", None)
        run_all()

        assert seen == [("acme", "acme")] * 2 + [(None, None)] * 2
        assert tenants_of("tests.Noted") == {"acme", None}

    def test_is_current_in_an_async_handler_with_a_receipt(self):
        seen = []

        @subscribe("tests.Moved", name="tests.see", atomic=False)
        async def see(box: str, receipt: Receipt) -> None:
            async with receipt:
                seen.append(hooks.capture())

        Outbox()
        emit_in("acme")
        run_all()

        assert (seen, states()) == (["acme"], ["done"])

    def test_is_that_of_all_deliveries_of_a_bulk_call(self):
        seen = []

        @subscribe("tests.Moved", name="tests.see", bulk=True, share_window=100)
        def see(deliveries: Sequence[BulkDelivery]) -> None:
            seen.append((hooks.capture(), sorted(str(one.event.tenant) for one in deliveries)))
            for one in deliveries:
                one.done()

        Outbox()
        emit_in(*TENANTS)
        Event.objects.update(share=None)  # otherwise each has a message of its own
        run_all()

        assert sorted(seen, key=str) == [
            ("acme", ["acme", "acme"]),
            ("bolt", ["bolt", "bolt"]),
            (None, ["None", "None"]),
        ]
        assert set(states()) == {"done"}

    def test_is_current_where_the_targets_are_found_and_handled(self):
        seen = []

        def find(box: str) -> list[Target]:
            seen.append(("found", hooks.capture()))
            return [Target("t1")]

        @subscribe("tests.Moved", name="tests.see", targets=find)
        def see(target: str) -> None:
            seen.append((target, hooks.capture()))

        Outbox()
        emit_in("acme")
        run_all()

        assert seen == [("found", "acme"), ("t1", "acme")]
        assert Delivery.objects.get(target="t1").share == "acme"

    @pytest.mark.parametrize("shares", [True, False], ids=["batch", "alone"])
    def test_is_current_in_a_callback_after_the_commit(self, shares: bool):
        seen = []

        @subscribe("tests.Moved", name="tests.see", shared_transaction=shares)
        def see(box: str) -> None:
            transaction.on_commit(lambda: seen.append((name_of(box), hooks.capture())))

        Outbox()
        emit_in("acme", "bolt", None, "acme")
        run_all()

        assert set(seen) == {("acme", "acme"), ("bolt", "bolt"), (None, None)}

    def test_is_current_when_the_delivery_is_replayed(self):
        seen = []

        @subscribe("tests.Moved", name="tests.see")
        def see() -> None:
            seen.append(hooks.capture())

        Outbox()
        emit_in("acme")
        run_all()
        operations.replay(
            operations.Choice(ids=(Delivery.objects.get().pk,)), by="ann", reason="again"
        )
        run_all()

        assert seen == ["acme", "acme"]

    def test_is_that_of_the_events_that_the_handler_emits(self):
        @subscribe("tests.Moved", name="tests.note")
        def note(box: str) -> None:
            emit(Noted(box=box))

        Outbox()
        emit_in(*TENANTS)
        run_all()

        rows = Event.objects.filter(name="tests.Noted").values_list("key", "tenant")
        assert len(rows) == len(TENANTS)
        assert all(name_of(key) == tenant for key, tenant in rows)

    def test_is_in_the_logs(self, caplog: pytest.LogCaptureFixture):
        @subscribe("tests.Moved", name="tests.see")
        def see() -> None:
            logging.getLogger("tests").warning("within")

        Outbox()
        emit_in("acme")
        caplog.handler.addFilter(CorrelationFilter())
        with caplog.at_level(logging.INFO):
            run_all()

        tenants = {one.name: getattr(one, "tenant", "") for one in caplog.records}
        assert tenants["tests"] == "acme"
        assert tenants["outbox.delivery"] == "acme"


def tenants_of(name: str) -> set[str | None]:
    return set(Event.objects.filter(name=name).values_list("tenant", flat=True))


class TestAHookThat:
    @pytest.mark.parametrize(
        ("hook", "text"),
        [
            ("failing", "no tenant acme"),
            ("no_manager", "which is no context manager. Decorate the function by"),
        ],
    )
    @pytest.mark.parametrize(
        "policy",
        [{}, {"shared_transaction": False}, {"atomic": False}, {"bulk": True}],
        ids=["batch", "alone", "receipt", "bulk"],
    )
    def test_fails_fails_the_delivery_before_the_handler_is_called(
        self, hook: str, text: str, policy: dict[str, Any], configure: Configure
    ):
        called = []

        def see() -> None:
            called.append("called")

        def see_receipt(receipt: Receipt) -> None:
            called.append("called")

        def see_all(deliveries: Sequence[BulkDelivery]) -> None:
            called.append("called")

        takes: dict[str, Any] = {"atomic": see_receipt, "bulk": see_all}
        function = next((takes[one] for one in policy if one in takes), see)
        subscribe("tests.Moved", name="tests.see", **policy)(function)
        Outbox()
        emit_in("acme", "acme")
        configure(RESTORE=f"{hooks.__name__}.{hook}")
        run_messages(run_pass())

        assert not called
        assert states() == ["pending", "pending"]
        assert all(text in one.message for one in Attempt.objects.all())

    def test_suppresses_an_exception_does_not_make_the_delivery_done(self, configure: Configure):
        configure(RESTORE=f"{hooks.__name__}.suppressing")

        @subscribe("tests.Moved", name="tests.see")
        def see() -> None:
            raise ValueError("refused")

        Outbox()
        emit_in("acme")
        run_messages(run_pass())

        assert states() == ["pending"]
        assert Attempt.objects.get().message == "refused"

    def test_fails_at_its_end_is_named(self, configure: Configure):
        """Failed: only an error at its beginning named the function."""
        configure(RESTORE=f"{hooks.__name__}.failing_at_its_end")

        with (
            pytest.raises(LookupError, match="the schema is not reset") as caught,
            tenants.restored("acme"),
        ):
            pass

        [note] = tenants.notes_of(caught.value)
        assert note == (
            'OUTBOX["TENANT"]["RESTORE"], the function tests.outbox.tenants.hooks'
            ".failing_at_its_end, failed at its end."
        )
        assert not tenants.is_of_restore(caught.value)

    def test_is_not_named_by_an_error_of_the_handler(self):
        with pytest.raises(ValueError, match="refused") as caught, tenants.restored("acme"):
            raise ValueError("refused")

        assert tenants.notes_of(caught.value) == []


class TestAProcessWithoutTheSetting:
    def test_does_not_run_the_handler_of_an_event_with_a_tenant(self, settings: Settings):
        called: list[str] = []

        @subscribe("tests.Moved")
        def move(box: str) -> None:
            called.append(box)

        Outbox()
        emit_in("acme", None)
        settings.OUTBOX = {
            name: value for name, value in settings.OUTBOX.items() if name != "TENANT"
        }

        run_messages(run_pass())

        assert [name_of(box) for box in called] == [None]
        (attempt,) = Attempt.objects.all()
        assert "TENANT" in attempt.message
        assert "is not set in this process" in attempt.message


class TestAFunctionThatReadsPersonalData:
    def test_has_the_tenant_of_the_event_that_failed(self, monkeypatch: pytest.MonkeyPatch):
        seen: list[str | None] = []
        monkeypatch.setattr(cleaning, "subjects_of", lambda event: [object()])

        def read(subject: object) -> list[str]:
            seen.append(hooks.capture())
            return []

        monkeypatch.setattr(cleaning, "values_of", read)
        emit_in("acme")

        cleaning.cleaner_for(Event.objects.get())

        assert seen == ["acme"]
