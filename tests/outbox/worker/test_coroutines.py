"""An async handler runs in its delivery's transaction, and nothing of it continues after it."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from contextvars import Context, ContextVar
from uuid import UUID, uuid4

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.contrib.auth.models import Group
from django.db import connection

from outbox import BulkDelivery, DomainEvent, Receipt, emit, subscribe
from outbox.context import current_cause
from outbox.deliveries.time_limit import time_limit
from outbox.emission import aemit
from outbox.models import Attempt, Delivery, Event
from outbox.testing import Outbox
from outbox.worker import coroutines
from tests.outbox.drive import emit_orders, run_messages, run_pass
from tests.threads import aside

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("own_registry", "no_nudge"),
]

Run = Callable[[Callable[[], object]], object]


def here(function: Callable[[], object]) -> object:
    return function()


#: A worker's main thread (pools `prefork` and `solo`), and another thread (pool `threads`).
in_each_pool = pytest.mark.parametrize("run", [here, aside], ids=["main thread", "other thread"])


class Packed(DomainEvent, key="parcel_id"):
    parcel_id: UUID


def names() -> set[str]:
    return set(Group.objects.values_list("name", flat=True))


def deliver(number: int = 1, run: Run = here) -> None:
    outbox = emit_orders(number)
    run(lambda: outbox.deliver_all(raise_errors=False))


def states() -> list[str]:
    return list(Delivery.objects.order_by("event").values_list("state", flat=True))


@in_each_pool
class TestAnAtomicAsyncHandler:
    def test_commits_with_its_receipt(self, run: Run):
        @subscribe("shops.Ordered")
        async def pack(number: int) -> None:
            await Group.objects.acreate(name=str(number))

        deliver(3, run)

        assert states() == ["done"] * 3
        assert names() == {"0", "1", "2"}

    @pytest.mark.parametrize("shares", [True, False])
    def test_that_fails_leaves_nothing(self, run: Run, shares: bool):
        """All ways to write: methods of the ORM, `sync_to_async`, and other tasks."""

        @subscribe("shops.Ordered", shared_transaction=shares, attempts=1)
        async def pack(number: int, event_id: UUID) -> None:
            group = await Group.objects.acreate(name="a")
            group.name = "b"
            await group.asave()
            await sync_to_async(Group.objects.create)(name="c")
            await asyncio.gather(Group.objects.acreate(name="d"), Group.objects.acreate(name="e"))
            assert await Group.objects.acount() == 4
            raise ValueError

        deliver(2, run)

        assert states() == ["dead", "dead"]
        assert not Group.objects.exists()

    def test_fails_alone_in_its_batch(self, run: Run):
        @subscribe("shops.Ordered", attempts=1)
        async def pack(number: int) -> None:
            await Group.objects.acreate(name=str(number))
            if number == 1:
                raise ValueError

        deliver(3, run)

        assert states() == ["done", "dead", "done"]
        assert names() == {"0", "2"}

    def test_emits_in_its_transaction_with_its_cause(self, run: Run):
        @subscribe("shops.Ordered", attempts=1)
        async def pack(number: int, event_id: UUID) -> None:
            await aemit(Packed(parcel_id=uuid4()))
            if number == 1:
                raise ValueError

        deliver(2, run)

        [packed] = Event.objects.filter(name="tests.Packed")
        [ordered] = Event.objects.filter(name="shops.Ordered", payload__number=0)
        assert (packed.causation_id, packed.emitted_by) == (ordered.id, "tests.pack")
        assert packed.correlation_id == ordered.correlation_id


class TestEmitInACoroutine:
    def test_is_refused_with_the_way_that_works(self):
        @subscribe("shops.Ordered", attempts=1)
        async def pack() -> None:
            emit(Packed(parcel_id=uuid4()))

        deliver()

        assert "use `await aemit(event)`" in Attempt.objects.get().message
        assert not Event.objects.filter(name="tests.Packed").exists()


class TestAnAsyncHandlerWithReceipt:
    def test_commits_its_effects_with_the_receipt(self):
        @subscribe("shops.Ordered", atomic=False)
        async def charge(receipt: Receipt) -> None:
            await asyncio.sleep(0)
            async with receipt:
                await Group.objects.acreate(name="charged")
                assert await sync_to_async(lambda: connection.in_atomic_block)()

        deliver()

        assert states() == ["done"]
        assert names() == {"charged"}

    def test_that_fails_in_its_receipt_leaves_nothing(self):
        @subscribe("shops.Ordered", atomic=False, attempts=1)
        async def charge(receipt: Receipt) -> None:
            async with receipt:
                await Group.objects.acreate(name="charged")
                raise ValueError

        deliver()

        assert states() == ["dead"]
        assert not Group.objects.exists()

    def test_must_enter_it_by_async_with(self):
        @subscribe("shops.Ordered", atomic=False, attempts=1)
        async def charge(receipt: Receipt) -> None:
            with receipt:
                pass

        deliver()

        assert "`async with receipt:`" in Attempt.objects.get().message

    def test_may_enter_it_in_a_sync_function(self):
        @subscribe("shops.Ordered", atomic=False)
        async def charge(receipt: Receipt) -> None:
            def store() -> None:
                with receipt:
                    Group.objects.create(name="charged")

            await sync_to_async(store)()

        deliver()

        assert names() == {"charged"}

    def test_extends_its_lease(self):
        @subscribe("shops.Ordered", atomic=False, lease=3.0, time_limit=2)
        async def charge(receipt: Receipt) -> None:
            for _ in range(8):
                await asyncio.sleep(0.3)
                await receipt.aextend()
            async with receipt:
                pass

        deliver()

        assert states() == ["done"]


class TestOtherAsyncHandlers:
    def test_settle_each_delivery_of_a_bulk_call(self):
        @subscribe("shops.*", bulk=True, attempts=1)
        async def export(deliveries: Sequence[BulkDelivery]) -> None:
            await asyncio.sleep(0)
            for one in deliveries:
                one.failed(ValueError("even")) if one.event.payload["number"] == 0 else one.done()

        deliver(2)

        assert states() == ["dead", "done"]

    def test_are_called_for_each_target(self):
        async def shelves(number: int) -> list[str]:
            return [one.name async for one in Group.objects.order_by("name")]

        @subscribe("shops.Ordered", targets=shelves)
        async def pack(number: int, target: str) -> None:
            await Group.objects.filter(name=target).aupdate(name=f"packed {target}")

        Group.objects.create(name="a")
        Group.objects.create(name="b")
        deliver()

        assert names() == {"packed a", "packed b"}

    def test_keep_the_order_of_a_key(self):
        handled = []

        @subscribe("tests.Packed", ordered=True)
        async def pack(event_id: UUID) -> None:
            await asyncio.sleep(0)
            handled.append(event_id)

        outbox, parcel = Outbox(), uuid4()
        emitted = [outbox.given("tests.Packed", parcel_id=parcel).id for _ in range(3)]
        outbox.deliver_all()

        assert handled == emitted

    def test_run_twice_in_the_test_kit(self):
        calls: list[int] = []

        @subscribe("shops.Ordered")
        async def pack() -> None:
            await Group.objects.acreate(name=f"{len(calls)}")
            calls.append(1)

        emit_orders().deliver_all(twice=True)

        assert len(calls) == 2
        assert names() == {"1"}

    def test_may_call_sync_code_that_calls_async_code(self):
        @subscribe("shops.Ordered")
        async def pack() -> None:
            async def create() -> None:
                await Group.objects.acreate(name="nested")

            def sync() -> None:
                async_to_sync(create)()

            await sync_to_async(sync)()
            assert await Group.objects.acount() == 1

        deliver()

        assert names() == {"nested"}

    def test_leave_no_loop_to_sync_handlers(self):
        """A later `async_to_sync` runs on a loop of its own, as without async handlers."""
        loops = []

        async def note() -> None:
            loops.append(asyncio.get_running_loop())

        @subscribe("shops.Ordered")
        async def pack() -> None:
            await Group.objects.acount()
            await note()

        deliver()
        async_to_sync(note)()

        assert loops[0] is not loops[1]


class TestTheContextOfACall:
    def test_is_that_of_the_delivery(self):
        seen: list[tuple[UUID, UUID | None]] = []

        @subscribe("shops.Ordered")
        async def pack(event_id: UUID) -> None:
            seen.append((event_id, current_cause().causation_id))
            in_its_thread = await sync_to_async(current_cause)()
            seen.append((event_id, in_its_thread.causation_id))

        deliver(2)

        assert len(seen) == 4
        assert all(one == other for one, other in seen)

    def test_ends_with_it(self):
        language: ContextVar[str] = ContextVar("language", default="en")
        seen = []

        @subscribe("shops.Ordered")
        async def pack() -> None:
            seen.append(language.get())
            language.set("ja")

        deliver(2)

        assert seen == ["en", "en"]
        assert language.get() == "en"


class TestTheEventLoop:
    def test_stays_between_deliveries_of_a_thread(self):
        loops = set()

        @subscribe("shops.Ordered", atomic=False)
        async def charge(receipt: Receipt) -> None:
            loops.add(asyncio.get_running_loop())
            async with receipt:
                pass

        deliver(2)
        deliver(1, aside)

        assert len(loops) == 2

    def test_keeps_tasks_that_were_created_in_an_empty_context(self):
        """A client's own tasks live as long as its connection."""
        ticks: list[int] = []

        async def tick() -> None:
            while True:
                ticks.append(1)
                await asyncio.sleep(0.01)

        tasks = []

        @subscribe("shops.Ordered", shared_transaction=False)
        async def pack(number: int) -> None:
            if number == 0:
                tasks.append(asyncio.create_task(tick(), context=Context()))
                return
            before = len(ticks)
            while len(ticks) == before:
                await asyncio.sleep(0.01)
            tasks[0].cancel()

        deliver(2)

        assert states() == ["done", "done"]

    def test_is_another_one_after_a_fork(self):
        """A fork copies the loop, but not its thread."""

        @subscribe("shops.Ordered")
        async def pack() -> None:
            await asyncio.sleep(0)

        async def answer() -> None:
            await asyncio.to_thread(os.write, write, b"done")

        deliver()
        read, write = os.pipe()

        if not (child := os.fork()):
            try:
                with time_limit(10) as limit:
                    coroutines.run(answer, {}, limit)
            finally:
                os._exit(0)
        os.close(write)
        os.waitpid(child, 0)

        assert os.read(read, 20) == b"done"

    def test_ends_with_its_thread(self):
        loops = []

        @subscribe("shops.Ordered")
        async def pack() -> None:
            loops.append((asyncio.get_running_loop(), threading.current_thread()))

        deliver(1, aside)
        [(loop, thread)] = loops
        thread.join(60)

        assert loop.is_closed()


async def swallow() -> None:
    """Swallow each cancellation for longer than every limit of these tests."""
    end = time.monotonic() + 3
    while time.monotonic() < end:
        with suppress(BaseException):
            await asyncio.sleep(0.01)


def block() -> None:
    end = time.monotonic() + 15
    while time.monotonic() < end:
        time.sleep(0.01)


def the_error() -> str:
    return Attempt.objects.get().exception


@in_each_pool
class TestAnAsyncHandlerThatHangs:
    """Nothing of it continues, so nothing is written after it."""

    def test_is_cancelled_and_cleans_up(self, run: Run):
        cleaned = []

        @subscribe("shops.Ordered", time_limit=2, attempts=1)
        async def pack() -> None:
            await Group.objects.acreate(name="rolled back")
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                cleaned.append(await Group.objects.acount())
                raise

        deliver(1, run)

        assert (cleaned, the_error()) == ([1], "TimeLimitExceeded")
        assert not Group.objects.exists()
        assert Attempt.objects.get().place.endswith(" pack")

    def test_is_cancelled_within_a_call_of_async_to_sync(self, run: Run):
        """Seen to fail in the other thread: it waits for the inner coroutine in a call into C."""
        cleaned = []

        async def inner() -> None:
            try:
                await asyncio.sleep(15)
            except asyncio.CancelledError:
                cleaned.append(1)
                raise

        @subscribe("shops.Ordered", time_limit=1.5, attempts=1)
        async def pack() -> None:
            await sync_to_async(async_to_sync(inner))()

        deliver(1, run)

        assert (cleaned, the_error()) == ([1], "TimeLimitExceeded")

    def test_is_cancelled_again_after_a_swallowed_cancellation(self, run: Run):
        cancelled: list[int] = []

        @subscribe("shops.Ordered", time_limit=0.7, attempts=1)
        async def pack() -> None:
            end = time.monotonic() + 15
            while len(cancelled) < 3 and time.monotonic() < end:
                try:
                    await asyncio.sleep(1)
                except asyncio.CancelledError:
                    cancelled.append(1)
            await Group.objects.acreate(name="rolled back")

        deliver(1, run)

        assert (len(cancelled), the_error()) == (3, "TimeLimitExceeded")
        assert not Group.objects.exists()

    def test_ends_the_tasks_that_it_created(self, run: Run):
        tasks = []

        @subscribe("shops.Ordered", time_limit=0.7, attempts=1)
        async def pack() -> None:
            async def write_later() -> None:
                await swallow()
                await Group.objects.acreate(name="late")

            tasks.append(asyncio.create_task(write_later()))
            await asyncio.sleep(60)

        deliver(1, run)

        assert tasks[0].done()
        assert the_error() == "TimeLimitExceeded"
        assert not Group.objects.exists()

    def test_is_interrupted_within_a_call_in_the_transactions_thread(self, run: Run):
        cleaned = []

        @subscribe("shops.Ordered", time_limit=2, attempts=1)
        async def pack() -> None:
            await Group.objects.acreate(name="rolled back")
            try:
                await sync_to_async(block)()
            except asyncio.CancelledError:
                cleaned.append(True)
                raise

        deliver(1, run)

        assert cleaned == [True]
        assert the_error() == "TimeLimitExceeded"
        assert Attempt.objects.get().place.endswith(" block")
        assert not Group.objects.exists()

    def test_is_interrupted_within_a_thread_of_to_thread(self, run: Run):
        ended = threading.Event()

        @subscribe("shops.Ordered", time_limit=1.5, attempts=1)
        async def pack() -> None:
            def write_late() -> None:
                try:
                    block()
                    Group.objects.create(name="late")
                finally:
                    ended.set()

            await asyncio.to_thread(write_late)

        deliver(1, run)

        assert ended.is_set()
        assert the_error() == "TimeLimitExceeded"
        assert not Group.objects.exists()

    def test_is_interrupted_while_it_blocks_the_loop(self, run: Run):
        @subscribe("shops.Ordered", time_limit=1.5, attempts=1)
        async def pack() -> None:
            await Group.objects.acreate(name="rolled back")
            block()

        deliver(1, run)

        assert the_error() == "TimeLimitExceeded"
        assert Attempt.objects.get().place.endswith(" block")
        assert not Group.objects.exists()

    def test_gets_another_loop_if_it_blocked_the_first(
        self, run: Run, caplog: pytest.LogCaptureFixture
    ):
        loops = []

        @subscribe("shops.Ordered", time_limit=1, attempts=1, shared_transaction=False)
        async def pack(number: int) -> None:
            loops.append(asyncio.get_running_loop())
            if number == 0:
                block()

        deliver(2, run)

        assert len(set(loops)) == 2
        assert "has blocked its event loop" in caplog.text

    def test_within_its_receipt_leaves_nothing(self, run: Run):
        @subscribe("shops.Ordered", atomic=False, time_limit=0.2, attempts=1)
        async def charge(receipt: Receipt) -> None:
            async with receipt:
                await Group.objects.acreate(name="rolled back")
                await asyncio.sleep(60)

        deliver(1, run)

        assert states() == ["dead"]
        assert the_error() == "TimeLimitExceeded"
        assert not Group.objects.exists()

    def test_after_its_receipt_is_done(self, run: Run):
        went_on = []

        @subscribe("shops.Ordered", atomic=False, time_limit=3, attempts=1)
        async def charge(receipt: Receipt) -> None:
            async with receipt:
                await Group.objects.acreate(name="charged")
            await asyncio.sleep(60)
            went_on.append(True)

        deliver(1, run)

        assert states() == ["done"]
        assert names() == {"charged"}
        assert went_on == []

    def test_does_not_delay_the_next_delivery(self, run: Run):
        @subscribe("shops.Ordered", time_limit=2, attempts=1)
        async def pack(number: int) -> None:
            await Group.objects.acreate(name=str(number))
            if number == 0:
                block()

        deliver(3, run)

        assert states() == ["dead", "done", "done"]
        assert names() == {"1", "2"}


class TestAnAsyncHandlerThatEnds:
    def test_cancels_its_other_tasks(self):
        tasks = []

        @subscribe("shops.Ordered")
        async def pack() -> None:
            tasks.append(asyncio.create_task(asyncio.sleep(60)))

        deliver()

        assert tasks[0].cancelled()
        assert states() == ["done"]

    def test_waits_for_its_calls_in_threads(self):
        ended = threading.Event()

        @subscribe("shops.Ordered")
        async def pack() -> None:
            def work() -> None:
                time.sleep(0.2)
                ended.set()

            asyncio.get_running_loop().run_in_executor(None, work)

        deliver()

        assert ended.is_set()
        assert states() == ["done"]

    def test_with_a_cancellation_of_its_own_has_failed(self):
        @subscribe("shops.Ordered", attempts=1)
        async def pack() -> None:
            raise asyncio.CancelledError

        deliver()

        assert states() == ["dead"]
        assert the_error() == "HandlerCancelled"

    def test_by_system_exit_ends_its_worker(self):
        @subscribe("shops.Ordered")
        async def pack() -> None:
            raise SystemExit(3)

        emit_orders()
        with pytest.raises(SystemExit):
            run_messages(run_pass())

        assert states() == ["sent"]
