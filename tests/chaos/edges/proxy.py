"""A TCP proxy before a server, whose answers it passes, delays, drops or repeats."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, TypeVar

from shop.up.ports import HOST, free_port
from tests.chaos.edges.modes import Mode
from tests.chaos.edges.wires import Wire

T = TypeVar("T")

#: Called for each connection.
Client = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]]

#: Modes that begin and end with the end of all connections: bytes are missing in them.
_BREAKING = {Mode.CUT, Mode.LOST, Mode.PARTIAL, Mode.EXPIRED}


class Loop:
    """An event loop in a thread, for all proxies of a run."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._servers: list[asyncio.Server] = []
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in the loop and return its result."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def serve(self, client: Client, port: int) -> None:
        """Call `client` for each connection to a port of loopback."""
        self._servers.append(await asyncio.start_server(client, HOST, port))

    def close(self) -> None:
        """End all servers, connections and the thread."""
        self.run(self._end_all())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _end_all(self) -> None:
        for server in self._servers:
            server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)


class Proxy:
    """Listens on `port`, and connects each client to the server.

    Args:
        loop: where it runs.
        port: of the server.
        wire: makes the protocol of a connection from the ports of server and proxy.
        refusing_port: of a server that refuses all credentials. 0: the protocol has `refuse`.
        seed: decides which acknowledgements the mode PARTIAL drops.
    """

    def __init__(
        self,
        loop: Loop,
        port: int,
        wire: Callable[[int, int], Wire],
        *,
        refusing_port: int = 0,
        seed: int = 0,
    ) -> None:
        self.port = free_port()
        self._server_port, self._refusing_port = port, refusing_port
        self._wire = wire
        self._rng = random.Random(seed)
        self._mode = Mode.PASS
        self._writers: set[asyncio.StreamWriter] = set()
        self._loop = loop
        self._in_time: asyncio.Event = loop.run(self._listen())

    def put(self, mode: Mode) -> None:
        """Distort answers from now on, or pass them again."""
        self._loop.run(self._put(mode))

    async def _listen(self) -> asyncio.Event:
        await self._loop.serve(self._serve, self.port)
        in_time = asyncio.Event()
        in_time.set()
        return in_time

    async def _put(self, mode: Mode) -> None:
        before, self._mode = self._mode, mode
        if mode in _BREAKING or before in _BREAKING:
            for writer in list(self._writers):
                writer.transport.abort()
        if mode is Mode.LATE:
            self._in_time.clear()
        else:
            self._in_time.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        with suppress(OSError, asyncio.IncompleteReadError, ValueError):
            await self._connect(reader, writer)
        self._writers.discard(writer)
        writer.close()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        mode = self._mode
        if mode is Mode.CUT:
            return
        is_refused = mode is Mode.EXPIRED
        port = self._refusing_port if is_refused and self._refusing_port else self._server_port
        server = await asyncio.open_connection(HOST, port)
        self._writers.add(server[1])
        wire = self._wire(self._server_port, self.port)
        try:
            if is_refused and not self._refusing_port:
                await wire.refuse((reader, writer), server)
            else:
                await self._join((reader, writer), server, wire)
        finally:
            self._writers.discard(server[1])
            server[1].close()

    async def _join(
        self,
        client: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        server: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        wire: Wire,
    ) -> None:
        """Pass bytes in both directions until one side ends."""
        ways = [
            asyncio.create_task(self._requests(client[0], server[1], wire)),
            asyncio.create_task(self._answers(server[0], client[1], wire)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)

    async def _requests(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, wire: Wire
    ) -> None:
        while data := await reader.read(65536):
            wire.requested(data)
            writer.write(data)
            await writer.drain()

    async def _answers(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, wire: Wire
    ) -> None:
        rest = b""
        while data := await reader.read(65536):
            messages, rest = wire.split(rest + data)
            for message in messages:
                await self._in_time.wait()
                writer.write(message * self._copies(wire, message))
            await writer.drain()

    def _copies(self, wire: Wire, message: bytes) -> int:
        if self._mode is Mode.LOST:
            return 0
        if self._mode is Mode.PARTIAL and wire.is_acknowledgement(message):
            return self._rng.randrange(2)
        return 2 if self._mode is Mode.DOUBLE and wire.is_acknowledgement(message) else 1
