"""A connection to NATS in a thread of its own, since nats-py needs an event loop."""

from __future__ import annotations

import asyncio
import os
import random
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from typing import Any, TypeVar

from outbox.sinks.base import SinkUnavailable

with suppress(ImportError):  # reported when the sink is created
    import nats.errors
    from nats.aio.client import Client

R = TypeVar("R")

#: Loops and connections of the parent process. A child keeps them: their removal would unregister
#: the parent's sockets, because parent and child share the loop's epoll instance.
_of_parent: list[Any] = []


class EventLoop:
    """An event loop that runs in a daemon thread of this process."""

    def __init__(self, name: str) -> None:
        self.pid = os.getpid()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def call(self, coroutine: Coroutine[Any, Any, R], *, timeout: float) -> R:
        """Run a coroutine and return its result.

        Raises:
            SinkUnavailable: it has not ended within `timeout` seconds.
        """
        future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            return future.result(timeout)
        except TimeoutError:
            raise SinkUnavailable("NATS has not answered in time.") from None
        finally:
            future.cancel()  # also if a time limit interrupts the caller

    def stop(self) -> None:
        """End the thread."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(2)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
            self._loop.run_until_complete(_cancel_all())
        finally:
            self._loop.close()


async def _cancel_all() -> None:
    """Cancel the tasks that still run, for example one that closes a frozen connection."""
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks, timeout=1)


class Connection:
    """One connection. It does not reconnect: its owner opens another one.

    Attributes:
        client: the client of nats-py.
        lost: set once the connection has ended.
        refusal: text of the server's last refusal of a permission.
    """

    def __init__(self) -> None:
        self.client = Client()
        self.lost = asyncio.Event()
        self.refusal = ""
        self.last_error: Exception | None = None

    @property
    def is_usable(self) -> bool:
        return bool(self.client.is_connected) and not self.lost.is_set()

    async def open(self, server: str, options: Mapping[str, Any], *, seconds: float) -> None:
        """Connect to one server.

        Raises:
            OSError, nats.errors.Error, TimeoutError: it cannot be reached, or refuses.
        """
        opening = self.client.connect(
            server,
            **options,
            allow_reconnect=False,
            max_reconnect_attempts=1,
            reconnect_time_wait=0,
            connect_timeout=seconds,  # type: ignore[arg-type]  # nats-py accepts fractions
            error_cb=self._note,
            closed_cb=self._end,
            disconnected_cb=self._end,
        )
        await asyncio.wait_for(opening, seconds)

    async def close(self) -> None:
        """Close it. A frozen server may let this wait for long."""
        self.lost.set()
        with suppress(Exception):  # nats-py fails to close a client that was never connected
            await self.client.close()

    async def _note(self, error: Exception) -> None:
        self.last_error = error
        if "permissions violation" in str(error):
            self.refusal = str(error).removeprefix("nats: ")

    async def _end(self) -> None:
        self.lost.set()


class Connections:
    """The connection of one sink in this process. A forked child makes its own.

    Args:
        name: the sink's name.
        servers: URLs. They may contain credentials.
        options: other arguments of `nats.connect`.
    """

    def __init__(self, name: str, servers: Sequence[str], options: Mapping[str, Any]) -> None:
        self._name = name
        self._servers = servers
        self._options = options
        self._loop: EventLoop | None = None
        self._connection: Connection | None = None
        self._opening = asyncio.Lock()
        self._closing: set[asyncio.Task[None]] = set()

    def call(self, function: Callable[[Connection, float], Awaitable[R]], *, timeout: float) -> R:
        """Call a coroutine function with a connection and the time by which it has to return.

        Raises:
            SinkUnavailable: no server can be reached, or the time is over.
        """
        if self._loop is None or self._loop.pid != os.getpid():
            self._renew()
        assert self._loop
        # The coroutine ends a little earlier, so that it returns the results that it has.
        deadline = time.monotonic() + timeout - min(0.1 * timeout, 1.0)
        return self._loop.call(self._with_connection(function, deadline), timeout=timeout)

    def drop(self) -> None:
        """Close the connection in the background; the next call opens another. Runs in the loop."""
        connection, self._connection = self._connection, None
        if connection:
            self._close_in_background(connection)

    def close(self) -> None:
        """Close the connection and end the thread."""
        loop, self._loop = self._loop, None
        if loop is None or loop.pid != os.getpid():
            return
        connection, self._connection = self._connection, None
        if connection:
            with suppress(SinkUnavailable):
                loop.call(connection.close(), timeout=1)
        loop.stop()

    def _renew(self) -> None:
        _of_parent.append((self._loop, self._connection, self._closing))
        self._connection, self._opening, self._closing = None, asyncio.Lock(), set()
        self._loop = EventLoop(f"outbox-nats-{self._name}")

    async def _with_connection(
        self, function: Callable[[Connection, float], Awaitable[R]], deadline: float
    ) -> R:
        async with self._opening:
            connection = self._connection
            if connection is None or not connection.is_usable:
                self.drop()
                connection = self._connection = await self._opened(deadline)
        return await function(connection, deadline)

    async def _opened(self, deadline: float) -> Connection:
        """Return a connection to the first server that accepts one, in random order."""
        servers = random.sample(self._servers, len(self._servers))
        reason = ""
        for index, server in enumerate(servers):
            seconds = (deadline - time.monotonic()) / (len(servers) - index)
            connection = Connection()
            try:
                await connection.open(server, self._options, seconds=max(seconds, 0.01))
            except (TimeoutError, OSError, nats.errors.Error) as error:
                reason = _reason(error, connection.last_error)
                self._close_in_background(connection)
            else:
                return connection
        raise SinkUnavailable(
            f'The sink "{self._name}" cannot connect to NATS: {reason}. '
            "Check the servers and credentials in OPTIONS, and the network."
        )

    def _close_in_background(self, connection: Connection) -> None:
        task = asyncio.get_running_loop().create_task(connection.close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)


def _reason(error: Exception, last_error: Exception | None) -> str:
    """Describe why a connection failed, without quoting the server's URL."""
    if "authorization" in str(error).lower():
        return "the server refuses the credentials"
    if isinstance(error, nats.errors.NoServersError) and last_error is not None:
        error = last_error
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return type(error).__name__
