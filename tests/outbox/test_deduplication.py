"""`emit(..., dedupe_key=)` stores one event of a name for a key, while that event exists."""

from __future__ import annotations

import asyncio
import logging
import threading
from datetime import datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.db import OperationalError, connection, transaction
from django.utils import timezone

from outbox import DomainEvent, NotInTransaction, cancel_delayed, deduplication, emit, operations
from outbox.deduplication import DedupeKeyReused, forget_unused
from outbox.deliveries.transient_errors import is_transient
from outbox.emission import aemit
from outbox.models import DedupeKey, DelayedEvent, Event
from outbox.storable import UnstorableValue
from outbox.testing import Outbox
from tests.outbox.drive import run_pass
from tests.threads import aside, in_thread, wait_until_blocked


class ParcelSent(DomainEvent, key="parcel_id"):
    parcel_id: str
    note: str = ""


class ParcelLost(DomainEvent, key="parcel_id"):
    parcel_id: str


def send(
    parcel_id: str = "7", *, note: str = "", dedupe_key: str = "k", delay: timedelta | None = None
) -> UUID:
    with transaction.atomic():
        return emit(ParcelSent(parcel_id=parcel_id, note=note), dedupe_key=dedupe_key, delay=delay)


def uuid7_of(at: datetime) -> UUID:
    """Return an id as of an event that was emitted at a time."""
    return UUID(int=(int(at.timestamp() * 1000) << 80) | (uuid4().int & (1 << 80) - 1))


def forget_one_page() -> None:
    """Delete unused keys in a run without time."""
    forget_unused(before=timezone.now() - timedelta(days=1), until=0.0, using="default")


@pytest.mark.django_db
class TestADedupeKey:
    def test_stores_one_event_and_returns_its_id(self):
        first = send()

        assert send() == first
        assert [row.id for row in Event.objects.all()] == [first]

    def test_belongs_to_the_name_of_the_event(self):
        first = send()

        with transaction.atomic():
            second = emit(ParcelLost(parcel_id="7"), dedupe_key="k")

        assert second != first
        assert Event.objects.count() == 2

    def test_is_stored_as_a_hash(self):
        send(dedupe_key="ada@example.org")

        assert "ada" not in DedupeKey.objects.get().digest

    @pytest.mark.parametrize("key", ["x" * 10_000, "a\x00b", "\ud800"])
    def test_may_be_any_text(self, key: str):
        assert send(dedupe_key=key) == send(dedupe_key=key)

    @pytest.mark.parametrize("key", [object(), 7, b"k"])
    def test_must_be_a_text(self, key: Any):
        """The text of an object contains its address, so it would never repeat."""
        with pytest.raises(TypeError, match=r"dedupe_key= is a \w+\. Pass a text"):
            send(dedupe_key=key)

    def test_must_not_be_empty(self):
        with pytest.raises(ValueError, match="dedupe_key= is empty"):
            send(dedupe_key="")

        assert not Event.objects.exists()

    def test_costs_one_statement_more(self, django_assert_num_queries):
        with transaction.atomic(), django_assert_num_queries(2):
            emit(ParcelSent(parcel_id="7"), dedupe_key="k")

    def test_is_unused_after_a_rollback(self):
        with pytest.raises(ValueError, match="undo"), transaction.atomic():
            first = emit(ParcelSent(parcel_id="7"), dedupe_key="k")
            raise ValueError("undo")

        assert send() != first
        assert Event.objects.count() == 1

    def test_is_unused_if_the_event_cannot_be_stored(self):
        with transaction.atomic(), pytest.raises(UnstorableValue):
            emit(ParcelSent(parcel_id="7", note="a\x00b"), dedupe_key="k")

        assert not DedupeKey.objects.exists()

    def test_is_unused_once_its_event_is_pruned(self):
        first = send()
        Event.objects.update(emitted_at=timezone.now() - timedelta(days=9))
        run_pass()

        operations.prune(older_than=timedelta(days=1), by="test")

        assert not DedupeKey.objects.exists()
        assert send() != first

    def test_is_unused_if_an_earlier_release_has_pruned_its_event(self):
        """An earlier release knows no keys, and leaves them."""
        first = send()
        Event.objects.all().delete()

        second = send()

        assert second != first
        assert send() == second

    def test_is_deleted_if_an_earlier_release_has_pruned_its_event(self):
        """Seen to fail without `forget_unused`: such keys would stay for ever."""
        old = uuid7_of(timezone.now() - timedelta(days=9))
        kept = [uuid7_of(timezone.now() - timedelta(days=9)) for _ in range(2)]
        young = send(dedupe_key="young")
        Event.objects.all().delete()
        first = send(dedupe_key="stored")
        delayed = send(dedupe_key="delayed", delay=timedelta(days=30))
        for model, before, after in (
            (Event, first, kept[0]),
            (DelayedEvent, delayed, kept[1]),
        ):
            model._default_manager.filter(id=before).update(id=after)
            DedupeKey.objects.filter(event=before).update(event=after)
        DedupeKey.objects.create(digest="of a pruned event", event=old)

        operations.prune(older_than=timedelta(days=1), by="test")

        left = set(DedupeKey.objects.values_list("event", flat=True))
        assert left == {*kept, young}

    def test_is_deleted_although_pruning_uses_up_the_time_of_each_run(self):
        """Failed: such keys would stay for as long as there is much to prune."""
        old = uuid7_of(timezone.now() - timedelta(days=9))
        DedupeKey.objects.create(digest="of a pruned event", event=old)

        operations.prune(older_than=timedelta(days=1), at_most=timedelta(0), by="test")

        assert not DedupeKey.objects.exists()

    def test_of_many_that_are_unused_is_deleted_by_a_later_run(
        self, monkeypatch: pytest.MonkeyPatch
    ):
        """Seen to fail if each run begins with the oldest key."""
        monkeypatch.setattr(deduplication, "_PAGE", 1)
        event = send(dedupe_key="stored")
        kept, old = sorted(uuid7_of(timezone.now() - timedelta(days=9)) for _ in range(2))
        Event.objects.update(id=kept)
        DedupeKey.objects.filter(event=event).update(event=kept)
        DedupeKey.objects.create(digest="of a pruned event", event=old)

        for _ in range(2):
            forget_one_page()

        assert [key.event for key in DedupeKey.objects.all()] == [kept]


@pytest.mark.django_db
class TestAKeyOfADelayedEvent:
    DELAY = timedelta(days=1)

    def test_stops_a_direct_event(self):
        first = send(delay=self.DELAY)

        assert send() == first
        assert not Event.objects.exists()

    def test_is_stopped_by_a_direct_event(self):
        first = send()

        assert send(delay=self.DELAY) == first
        assert not DelayedEvent.objects.exists()

    def test_is_used_after_its_event_became_due(self):
        first = send(delay=self.DELAY)
        outbox = Outbox()
        outbox.let_pass(self.DELAY)
        outbox.deliver_all()

        assert send() == first
        assert [row.id for row in Event.objects.all()] == [first]

    def test_is_unused_once_it_is_cancelled(self):
        first = send(delay=self.DELAY)
        assert cancel_delayed(first)

        assert send() != first


@pytest.mark.django_db
class TestAnotherEventWithTheKey:
    def test_of_another_aggregate_is_refused(self):
        first = send("7")

        with pytest.raises(DedupeKeyReused, match=f"belongs to event {first} of 7"):
            send("8")

        assert Event.objects.count() == 1

    def test_with_other_values_is_dropped_and_logged_without_them(
        self, caplog: pytest.LogCaptureFixture
    ):
        first = send(note="fragile")

        with caplog.at_level(logging.WARNING, "outbox.emission"):
            assert send(note="heavy") == first

        [line] = caplog.messages
        assert "with other values of note" in line
        assert "fragile" not in line
        assert "heavy" not in line


@pytest.mark.django_db(transaction=True)
class TestTwoTransactionsWithAKey:
    @pytest.mark.parametrize("commits", [True, False])
    def test_store_one_event(self, commits: bool):
        """The second waits for the first one. It stores its event if the first rolls back."""
        if connection.vendor != "postgresql":
            pytest.skip("SQLite has one writer at a time.")
        is_emitted, may_end = threading.Event(), threading.Event()
        firsts: list[UUID] = []

        def emit_first() -> None:
            with transaction.atomic():
                firsts.append(emit(ParcelSent(parcel_id="7"), dedupe_key="k"))
                is_emitted.set()
                may_end.wait(60)
                transaction.set_rollback(not commits)

        first = in_thread(emit_first)
        assert is_emitted.wait(60)
        second = in_thread(send)
        wait_until_blocked(1)
        may_end.set()
        first()

        assert (second() == firsts[0]) is commits
        assert Event.objects.count() == 1

    def test_store_one_event_while_a_delayed_one_becomes_due(self):
        """Seen to fail if the table of events is read before that of delayed events."""
        if connection.vendor != "postgresql":
            pytest.skip("SQLite has one writer at a time.")
        first = send(delay=timedelta(days=1))
        DelayedEvent.objects.update(due_at=timezone.now())
        moved: list[int] = []

        def move(execute: Any, sql: str, *rest: Any) -> Any:
            found = execute(sql, *rest)
            is_read = 'FROM "outbox_delayedevent"' in sql or 'FROM "outbox_event"' in sql
            if is_read and not moved:
                moved.append(1)
                aside(run_pass)
            return found

        with connection.execute_wrapper(move):
            second = send()

        assert moved
        assert second == first
        assert Event.objects.count() == 1

    def test_in_opposite_order_of_two_keys_end_with_a_deadlock_that_can_be_repeated(self):
        """PostgreSQL ends one of them. It stores nothing, and its repetition stores no copy."""
        if connection.vendor != "postgresql":
            pytest.skip("SQLite has one writer at a time.")
        both = threading.Barrier(2)

        def emit_both(keys: str) -> None:
            with transaction.atomic():
                emit(ParcelSent(parcel_id="7"), dedupe_key=keys[0])
                both.wait(60)
                emit(ParcelSent(parcel_id="7"), dedupe_key=keys[1])

        results = [
            wait() for wait in [in_thread(partial(emit_both, keys)) for keys in ("ab", "ba")]
        ]

        [deadlock] = [one for one in results if one is not None]
        assert isinstance(deadlock, OperationalError)
        assert is_transient(deadlock, using="default")
        assert Event.objects.count() == 2
        assert send(dedupe_key="a") in Event.objects.values_list("id", flat=True)
        assert Event.objects.count() == 2


@pytest.mark.django_db(transaction=True)
class TestAemit:
    def test_joins_the_transaction_of_the_thread_for_queries(self):
        def place() -> None:
            with transaction.atomic():
                async_to_sync(aemit)(ParcelSent(parcel_id="7"), dedupe_key="k")
                raise ValueError("undo")

        with pytest.raises(ValueError, match="undo"):
            place()
        assert not Event.objects.exists()

    def test_needs_a_transaction_as_emit(self):
        with pytest.raises(NotInTransaction, match="Put the change and emit"):
            async_to_sync(aemit)(ParcelSent(parcel_id="7"))

    def test_is_named_where_emit_is_called_in_a_coroutine(self):
        async def view() -> None:
            emit(ParcelSent(parcel_id="7"))

        with pytest.raises(NotInTransaction, match=r"`await aemit\(event\)`"):
            asyncio.run(view())

    def test_is_not_needed_where_an_async_view_calls_a_service(self):
        def place(parcel_id: str) -> UUID:
            with transaction.atomic():
                return emit(ParcelSent(parcel_id=parcel_id))

        async def view() -> UUID:
            return await sync_to_async(place)(str(uuid4()))

        event_id = async_to_sync(view)()

        assert Event.objects.get().id == event_id
