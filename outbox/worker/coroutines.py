"""Run an `async def` handler: its coroutine on an event loop, its database calls in this thread.

Each thread that handles deliveries has an event loop in a second thread. The loop stays, so the
connections of asynchronous clients survive between deliveries. While the coroutine runs, the first
thread waits, and runs what asgiref's `sync_to_async` submits. So the asynchronous methods of
Django's ORM use this thread's connection, and its transaction.

Nothing of a call continues after it. Its other tasks are cancelled when its coroutine ends. Calls
in threads (`asyncio.to_thread`) have to end, too. At the time limit the coroutine is cancelled,
and a call in a thread is interrupted. That repeats until all of them have ended.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import threading
from collections.abc import Callable, Coroutine, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from contextvars import Context, ContextVar, copy_context
from functools import partial
from typing import Any
from weakref import WeakSet

from asgiref.current_thread_executor import CurrentThreadExecutor
from asgiref.sync import AsyncToSync, SyncToAsync
from django.db import connections

from outbox.databases import waiting_for
from outbox.deliveries.time_limit import Interrupt, Limit, ThreadLimit, time_limit

logger = logging.getLogger("outbox.delivery")

#: Seconds after which an event loop that does not cancel the coroutine is blocked by it.
_RESPONSE_SECONDS = 0.5


class HandlerCancelled(RuntimeError):
    """The handler's coroutine was cancelled, by itself or a library, and not by its time limit."""


def run(function: Callable[..., Any], arguments: Mapping[str, Any], limit: Limit) -> None:
    """Run an async function to its end, in a copy of the context.

    Args:
        function: returns an awaitable.
        arguments: its keyword arguments.
        limit: the running time limit of this thread.

    Raises:
        TimeLimitExceeded: the time is up. The coroutine was cancelled and has ended.
        HandlerCancelled: the coroutine was cancelled for another reason.
    """
    loop = _loop_of_this_thread()
    call = _Call(function, arguments, limit, loop)
    try:
        call.run()
    finally:
        # Otherwise a later async_to_sync in this thread would use this loop.
        SyncToAsync.threadlocal.main_event_loop = None
        if loop.is_spoiled:
            del _threads.owner
            logger.warning(
                "A call of %s has blocked its event loop. The next one has another loop, and needs "
                "other clients. Use asynchronous clients, or asyncio.to_thread.",
                getattr(function, "__qualname__", type(function).__qualname__),
            )
    call.raise_error()


class _Call:
    """One call of an async function."""

    def __init__(
        self,
        function: Callable[..., Any],
        arguments: Mapping[str, Any],
        limit: Limit,
        loop: _Loop,
    ) -> None:
        self._function, self._arguments = function, arguments
        self._limit = limit
        self._loop = loop
        self._main: asyncio.Task[None] | None = None
        self._others: set[asyncio.Task[Any]] = set()
        self._error: BaseException | None = None
        self._executor = _Executor(limit, self.cancel, beside=self._cancel_others)
        self.done: Future[None] = Future()

    def run(self) -> None:
        """Run the call, and meanwhile what it submits to this thread."""
        context = copy_context()
        context.run(self._enter)
        self._limit.divert(self.cancel)
        try:
            with self._loop.submits_to(self._executor):
                self._loop.soon(self._start, context)
                self._executor.run_until_future(self.done)
        except BaseException:  # a shutdown of the process, by a signal
            self._loop.is_spoiled = True
            self.cancel()
            raise
        finally:
            self._limit.undivert()

    def _enter(self) -> None:
        _call.set(self)
        waiting_for.set(tuple(connections.all()))

    def _start(self, context: Context) -> None:
        self._main = self._loop.create_task(self._body(), context)
        self._main.add_done_callback(self.end)

    async def _body(self) -> None:
        try:
            await self._function(**self._arguments)
        except BaseException as error:
            self._error = error

    def end(self, _ended: object = None) -> None:
        """End the call if nothing of it runs. In the loop's thread, after each end of a part."""
        if self._main is None or not self._main.done() or self.done.done():
            return
        left = self._loop.tasks()
        for task in left - self._others:
            self._others.add(task)
            task.add_done_callback(self.end)
            task.cancel()
        if not left and not self._loop.pool.calls:
            self.done.set_result(None)

    def cancel(self) -> None:
        """Cancel what runs. Any thread may call it, also a signal handler."""
        guard = self._loop.guard()
        self._loop.soon(self._cancel, guard)
        self._loop.pool.interrupt()

    def _cancel_others(self) -> None:
        """Cancel all but the coroutine: a submitted call may wait for one by `async_to_sync`."""
        self._loop.soon(self._cancel_each, self._loop.guard())

    def _cancel_each(self, guard: ThreadLimit) -> None:
        self._loop.responds(guard)
        for task in self._loop.tasks() - {self._main}:
            task.cancel()

    def _cancel(self, guard: ThreadLimit) -> None:
        self._loop.responds(guard)
        main = self._main
        for task in [main] if main is not None and not main.done() else self._loop.tasks():
            task.cancel()

    def raise_error(self) -> None:
        """Raise the error of the coroutine, if any."""
        error, self._error = self._error, None
        if self._limit.is_over and isinstance(error, asyncio.CancelledError | Interrupt):
            # The frames of an interrupted statement show which database does not answer.
            interrupted = self._executor.interrupt or error
            raise self._limit.exceeded().with_traceback(interrupted.__traceback__)
        if isinstance(error, asyncio.CancelledError):
            raise HandlerCancelled(HandlerCancelled.__doc__) from error
        if error is not None:
            raise error


class _Executor(CurrentThreadExecutor):
    """Runs what the coroutine submits to the waiting thread. Only that can be interrupted there."""

    def __init__(
        self, limit: Limit, cancel: Callable[[], None], *, beside: Callable[[], None]
    ) -> None:
        try:
            super().__init__(None)
        except TypeError:  # asgiref before 3.9 has no executors within executors
            super().__init__()  # type: ignore[call-arg]
        self._limit, self._cancel, self._beside = limit, cancel, beside
        self.interrupt: Interrupt | None = None

    def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Submit a call, from the loop's thread."""
        return super().submit(self._interruptible, partial(function, *args, **kwargs))

    def _interruptible(self, function: Callable[[], Any]) -> Any:
        try:
            try:
                self._limit.undivert(beside=self._beside)
                return function()
            finally:
                self._limit.divert(self._cancel)
        except Interrupt as interrupt:
            self.interrupt = interrupt
            raise asyncio.CancelledError from interrupt
        finally:
            self._limit.divert(self._cancel)  # an interruption may have hit during the other one


class _Pool(ThreadPoolExecutor):
    """The threads of `asyncio.to_thread`. Their calls end with the handler's call."""

    def __init__(self, loop: _Loop) -> None:
        super().__init__(thread_name_prefix="outbox-pool")
        self._loop = loop
        self._limits: set[ThreadLimit] = set()
        self.calls: set[Future[Any]] = set()

    def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Submit a call, from the loop's thread."""
        call = _call.get()
        if call is None:  # of a task that lasts
            return super().submit(function, *args, **kwargs)
        future = super().submit(self._interruptible, partial(function, *args, **kwargs))
        self.calls.add(future)
        future.add_done_callback(partial(self._loop.soon, self._end, call))
        return future

    def _end(self, call: _Call, future: Future[Any]) -> None:
        self.calls.discard(future)
        call.end()

    def _interruptible(self, function: Callable[[], Any]) -> Any:
        try:
            with time_limit(math.inf) as limit:
                assert isinstance(limit, ThreadLimit)
                self._limits.add(limit)
                try:
                    return function()
                finally:
                    self._limits.discard(limit)
        finally:
            connections.close_all()

    def interrupt(self) -> None:
        """Interrupt the running calls, and cancel the others."""
        for future in list(self.calls):
            future.cancel()
        for limit in list(self._limits):
            limit.expire()


class _Loop:
    """An event loop in a thread of its own.

    Attributes:
        pool: the threads of `asyncio.to_thread`.
        is_spoiled: a blocking call in the loop was interrupted, at any line. Use another loop.
    """

    def __init__(self) -> None:
        self.is_spoiled = False
        self._is_closed = False
        self._lasting: WeakSet[asyncio.Task[Any]] = WeakSet()
        self._loop = asyncio.new_event_loop()
        self._loop.set_task_factory(self._task)
        self.pool = _Pool(self)
        self._loop.set_default_executor(self.pool)
        self._thread = threading.Thread(target=self._serve, name="outbox-loop", daemon=True)
        self._thread.start()

    def soon(self, function: Callable[..., object], *arguments: Any) -> None:
        """Call a function in the loop's thread."""
        self._loop.call_soon_threadsafe(function, *arguments)

    @contextmanager
    def submits_to(self, executor: CurrentThreadExecutor) -> Iterator[None]:
        """Let `sync_to_async` submit to this executor, from all tasks of the loop."""
        AsyncToSync.loop_thread_executors[self._loop] = executor
        try:
            yield
        finally:
            del AsyncToSync.loop_thread_executors[self._loop]

    def create_task(self, body: Coroutine[Any, Any, None], context: Context) -> asyncio.Task[None]:
        """Create a task that runs in a context."""
        return self._loop.create_task(body, context=context)

    def tasks(self) -> set[asyncio.Task[Any]]:
        """Return the running tasks of the call. Those created in an empty context last."""
        return asyncio.all_tasks(self._loop) - set(self._lasting)

    def guard(self) -> ThreadLimit:
        """Return a limit that interrupts the loop's thread unless the loop `responds` soon."""
        guard = ThreadLimit(_RESPONSE_SECONDS, self._thread.ident)
        guard.restart()
        return guard

    def responds(self, guard: ThreadLimit) -> None:
        """Stop a guard, in the loop's thread."""
        guard.stop()
        self.is_spoiled |= guard.is_over

    def close(self) -> None:
        """End the loop, its tasks and its thread."""
        self._is_closed = True
        with suppress(RuntimeError):  # it is closed
            self.soon(self._loop.stop)

    def _task(
        self,
        loop: asyncio.AbstractEventLoop,
        body: Any,
        *,
        context: Context | None = None,
        **more: Any,
    ) -> asyncio.Task[Any]:
        call = _call.get() if context is None else context.get(_call)
        task = asyncio.Task(body, loop=loop, context=context, **more)
        if call is None:
            self._lasting.add(task)
        elif call.done.done():  # a late callback created it
            task.cancel()
        return task

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        while not self._is_closed:
            try:
                self._loop.run_forever()
            except BaseException:
                self.is_spoiled = True
        left = asyncio.all_tasks(self._loop)
        for task in left:
            task.cancel()
        if left:
            self._loop.run_until_complete(asyncio.wait(left, timeout=1))
        self.pool.shutdown(wait=False)
        self._loop.close()


class _Owner:
    """Closes a loop once its thread has ended, or uses another one."""

    def __init__(self) -> None:
        self.loop = _Loop()

    def __del__(self) -> None:
        self.loop.close()


class _Threads(threading.local):
    owner: _Owner


_call: ContextVar[_Call | None] = ContextVar("outbox_call", default=None)
_threads = _Threads()


def _loop_of_this_thread() -> _Loop:
    if not hasattr(_threads, "owner"):
        _threads.owner = _Owner()
    return _threads.owner.loop


def _renew() -> None:
    # A fork copies no thread. The copied loop is not closed: it shares its selector.
    global _threads
    _forked.append(_threads)
    _threads = _Threads()


_forked: list[_Threads] = []
os.register_at_fork(after_in_child=_renew)
