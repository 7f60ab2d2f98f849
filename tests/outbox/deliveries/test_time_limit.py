"""A handler that runs too long is interrupted. Other code is not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta

import pytest
from django.contrib.auth.models import Group
from django.db import transaction
from django.utils import timezone

from outbox import LeaseLost, Receipt, TimeLimitExceeded, subscribe
from outbox.deliveries import failpoints
from outbox.deliveries.time_limit import time_limit
from outbox.models import Attempt, Delivery, Subscription
from outbox.worker.delivery import deliver
from tests.outbox.drive import emit_orders, run_pass
from tests.processes import CEILING
from tests.threads import aside


def spin() -> None:
    """Run for longer than every limit of these tests, in steps, and hide each exception."""
    end = time.monotonic() + 15
    while time.monotonic() < end:
        try:
            time.sleep(0.01)
        except Exception:
            continue


def in_this_thread(function) -> None:
    function()


def in_a_thread_of_a_pool(function) -> None:
    with ThreadPoolExecutor(1) as pool:
        pool.submit(function).result(timeout=60)


@pytest.mark.parametrize("run", [in_this_thread, in_a_thread_of_a_pool])
class TestALimit:
    def test_interrupts_a_run_that_takes_too_long(self, run):
        def work() -> None:
            with pytest.raises(TimeLimitExceeded, match=r"for more than 0\.05 s"), time_limit(0.05):
                spin()

        run(work)

    def test_interrupts_code_that_hides_all_exceptions(self, run):
        def work() -> None:
            with pytest.raises(TimeLimitExceeded), time_limit(0.05):
                try:
                    spin()
                except BaseException:
                    return

        run(work)

    def test_interrupts_again_after_a_hidden_interruption(self, run):
        """Seen to fail with an alarm that rings once, and with a shot that is fired once."""
        swallowed = 0

        def swallow() -> None:
            nonlocal swallowed
            end = time.monotonic() + CEILING
            while time.monotonic() < end:
                try:
                    time.sleep(0.01)
                except BaseException:
                    swallowed += 1
                    if swallowed == 3:
                        return

        def work() -> None:
            with pytest.raises(TimeLimitExceeded), time_limit(0.1):
                swallow()

        run(work)

        assert swallowed == 3

    def test_grants_no_more_time_after_a_hidden_interruption(self, run):
        """Seen to fail with a `restart` that does not look whether the time is up."""

        def work() -> None:
            with pytest.raises(TimeLimitExceeded), time_limit(0.05) as limit:
                with suppress(BaseException):
                    spin()
                limit.restart()
                pytest.fail("it went on")

        run(work)

    def test_does_not_interrupt_a_quick_run_or_later_code(self, run):
        def work() -> None:
            for _ in range(200):
                with time_limit(1):
                    pass
            time.sleep(1.1)

        run(work)

    def test_restarts_with_each_lease_extension(self, run):
        def work() -> None:
            with time_limit(2) as limit:
                for _ in range(25):
                    time.sleep(0.1)
                    limit.restart()

        run(work)


class TestAVeryShortLimit:
    def test_interrupts_a_run(self):
        """Ended the process with a stack overflow: each alarm interrupted the one before."""
        with pytest.raises(TimeLimitExceeded), time_limit(0.000_001):
            spin()


#: A process that clears a pending interruption in a thread, then calls a function while it traces.
TRACE_AFTER_A_LIMIT = """
import faulthandler, sys, threading
from outbox.deliveries.time_limit import TimeLimitExceeded, time_limit

def work():
    try:
        with time_limit(60) as limit:
            limit.is_over = True
    except TimeLimitExceeded:
        pass

thread = threading.Thread(target=work)
thread.start()
thread.join()
faulthandler.dump_traceback_later(20, exit=True)
sys.settrace(lambda frame, event, argument: None)
(lambda: None)()
"""


class TestLimitsOfThreads:
    def test_leave_no_interruption_pending_in_the_process(self):
        """Failed on Python 3.11, whose traced calls then never ended."""
        subprocess.run([sys.executable, "-c", TRACE_AFTER_A_LIMIT], check=True)

    def test_end_the_shortest_first(self):
        """Seen to fail without `_is_sooner`: the watch sleeps until the long one would be due."""
        is_long_on, may_end = threading.Event(), threading.Event()

        def work_long() -> None:
            with time_limit(60):
                is_long_on.set()
                may_end.wait(60)

        def work_short() -> None:
            assert is_long_on.wait(60)
            with pytest.raises(TimeLimitExceeded), time_limit(0.05):
                spin()
            may_end.set()

        with ThreadPoolExecutor(2) as pool:
            for future in [pool.submit(work_long), pool.submit(work_short)]:
                future.result(timeout=60)

    def test_hold_after_a_fork(self):
        """Seen to fail without `_renew`: nobody is there who would interrupt."""
        in_a_thread_of_a_pool(lambda: time_limit(5).__enter__().stop())
        read, write = os.pipe()

        if not (child := os.fork()):
            in_a_thread_of_a_pool(lambda: os.write(write, how_it_ends()))
            os._exit(0)
        os.waitpid(child, 0)

        assert os.read(read, 20) == b"interrupted"


def how_it_ends() -> bytes:
    try:
        with time_limit(0.05):
            end = time.monotonic() + 5
            while time.monotonic() < end:
                time.sleep(0.01)
    except TimeLimitExceeded:
        return b"interrupted"
    return b"went on"


class TestAnAlarmOfOtherCode:
    def test_still_fires(self):
        """Seen to fail without `_restore_previous_timer`."""
        rung = threading.Event()
        theirs = signal.signal(signal.SIGALRM, lambda *_: rung.set())
        before = signal.setitimer(signal.ITIMER_REAL, 0.1)
        try:
            with time_limit(5):
                pass
            assert rung.wait(timeout=60)
        finally:
            signal.signal(signal.SIGALRM, theirs)
            signal.setitimer(signal.ITIMER_REAL, *before)


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("own_registry", "no_nudge")
class TestAHandlerThatHangs:
    def test_has_failed_with_a_clear_error_and_its_neighbours_are_done(self):
        """Seen to hang without `time_limit` in `_run_atomic`."""

        @subscribe("shops.Ordered", time_limit=2, batch=5)
        def count(number: int) -> None:
            Group.objects.create(name=str(number))
            if number == 1:
                spin()

        emit_orders(3).deliver_all(raise_errors=False)

        attempt = Attempt.objects.get()
        assert (attempt.outcome, attempt.exception) == ("failed", "TimeLimitExceeded")
        assert attempt.message == "It ran for more than 2 s and was interrupted."
        assert attempt.place.startswith("tests.outbox.deliveries.test_time_limit:")
        assert attempt.place.endswith(" spin")
        assert set(Group.objects.values_list("name", flat=True)) == {"0", "2"}
        assert sorted(Delivery.objects.values_list("state", flat=True)) == [
            "done",
            "done",
            "pending",
        ]

    def test_in_a_worker_of_threads_is_interrupted_too(self):
        @subscribe("shops.Ordered", time_limit=0.2, attempts=1)
        def count() -> None:
            spin()

        outbox = emit_orders(1)
        aside(lambda: outbox.deliver_all(raise_errors=False))

        assert Attempt.objects.get().exception == "TimeLimitExceeded"

    def test_in_an_external_call_is_interrupted_before_its_receipt(self):
        @subscribe("shops.Ordered", atomic=False, time_limit=0.2)
        def charge(receipt: Receipt) -> None:
            spin()
            with receipt:
                Group.objects.create(name="charged")

        emit_orders(1).deliver_all(raise_errors=False)

        assert Attempt.objects.get().exception == "TimeLimitExceeded"
        assert not Group.objects.exists()

    @pytest.mark.parametrize("run", [in_this_thread, aside])
    def test_within_its_receipt_is_interrupted(self, run):
        """Failed while the limit ended where the receipt began: it held its process for good."""

        @subscribe("shops.Ordered", atomic=False, time_limit=0.2, attempts=1)
        def charge(receipt: Receipt) -> None:
            with receipt:
                Group.objects.create(name="rolled back")
                spin()

        outbox = emit_orders(1)
        run(lambda: outbox.deliver_all(raise_errors=False))

        assert Attempt.objects.get().exception == "TimeLimitExceeded"
        assert Delivery.objects.get().state == "dead"
        assert not Group.objects.exists()

    @pytest.mark.parametrize("run", [in_this_thread, aside])
    def test_after_its_receipt_is_interrupted_and_done(self, run):
        """Failed while the limit ended where the receipt began."""
        came_to_its_end = []

        @subscribe("shops.Ordered", atomic=False, time_limit=3)
        def charge(receipt: Receipt) -> None:
            with receipt:
                Group.objects.create(name="charged")
            spin()
            came_to_its_end.append(True)

        outbox = emit_orders(1)
        run(lambda: outbox.deliver_all(raise_errors=False))

        assert Delivery.objects.get().state == "done"
        assert Group.objects.exists()
        assert came_to_its_end == []

    def test_after_its_receipt_failed_is_interrupted(self):
        came_to_its_end = []

        @subscribe("shops.Ordered", atomic=False, time_limit=0.2)
        def charge(receipt: Receipt) -> None:
            with suppress(OSError), receipt:
                pass
            spin()
            came_to_its_end.append(True)

        def fail() -> None:
            raise OSError

        outbox = emit_orders(1)
        with failpoints.armed(failpoints.BEFORE_RECEIPT, fail):
            outbox.deliver_all(raise_errors=False)

        assert Attempt.objects.get().exception == "TimeLimitExceeded"
        assert came_to_its_end == []

    @pytest.mark.parametrize("run", [in_this_thread, aside])
    def test_is_never_interrupted_while_its_receipt_commits(self, run):
        """Seen to fail without `limit.pause` before the receipt is written."""

        @subscribe("shops.Ordered", atomic=False, time_limit=2)
        def charge(receipt: Receipt) -> None:
            with receipt:
                Group.objects.create(name="charged")

        outbox = emit_orders(1)
        with failpoints.armed(failpoints.BEFORE_RECEIPT, lambda: time.sleep(2.3)):
            run(lambda: outbox.deliver_all())

        assert Delivery.objects.get().state == "done"
        assert Group.objects.exists()


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("own_registry", "no_nudge")
class TestALongHandler:
    def test_keeps_its_lease_by_extensions(self):
        """Seen to fail with `extend` that only restarts the limit: the relay takes it for dead."""

        @subscribe("shops.Ordered", atomic=False, lease=3.0)
        def charge(receipt: Receipt) -> None:
            for _ in range(13):
                time.sleep(0.3)
                receipt.extend()
                run_pass()
            with receipt:
                Group.objects.create(name="charged")

        emit_orders(1).deliver_all()

        assert Delivery.objects.get().state == "done"
        assert not Attempt.objects.exists()

    def test_notices_a_lost_lease_at_an_extension_and_is_counted(self):
        """Seen to fail with `extend` that asks for no token, and without the count."""

        @subscribe("shops.Ordered", atomic=False)
        def charge(receipt: Receipt) -> None:
            Delivery.objects.update(due_at=timezone.now() - timedelta(minutes=1))
            run_pass()
            run_pass()
            Delivery.objects.update(state="sent", token=2)
            receipt.extend()
            raise AssertionError("it must not go on")

        emit_orders(1)
        [message] = run_pass()

        [result] = deliver(handler_name="tests.charge", pairs=message.pairs, worker="w1")

        assert isinstance(result.error, LeaseLost)
        assert Subscription.objects.get().leases_lost == 1
        assert Attempt.objects.filter(outcome="lease_lost").count() == 1

    def test_cannot_extend_within_a_transaction(self):
        @subscribe("shops.Ordered", atomic=False)
        def charge(receipt: Receipt) -> None:
            with transaction.atomic():
                receipt.extend()

        with pytest.raises(RuntimeError, match="no relay would see the new lease"):
            emit_orders(1).deliver_all()
