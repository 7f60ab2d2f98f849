"""Streams of a NATS server, as tests create and read them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import nats as nats_py

R = TypeVar("R")


def create(url: str, name: str, subjects: list[str], **config: Any) -> None:
    """Create a stream on disk."""
    in_jetstream(url, lambda js: js.add_stream(name=name, subjects=subjects, **config))


def stored(url: str, name: str) -> list[Any]:
    """Return the messages of a stream in its order: `subject`, `data`, `headers`."""

    async def read(js: Any) -> list[Any]:
        last = (await js.stream_info(name)).state.last_seq
        return [await js.get_msg(name, seq) for seq in range(1, last + 1)]

    return in_jetstream(url, read)


def ids(url: str, name: str) -> list[str]:
    """Return the `Nats-Msg-Id` of each message of a stream."""
    return [one.headers["Nats-Msg-Id"] for one in stored(url, name)]


def in_jetstream(url: str, function: Callable[[Any], Awaitable[R]]) -> R:
    """Call a coroutine function with a JetStream context."""

    async def call() -> R:
        client = await nats_py.connect(url)
        try:
            return await function(client.jetstream())
        finally:
            await client.close()

    return asyncio.run(call())


@contextmanager
def answering(url: str, subject: str, answer: bytes) -> Iterator[None]:
    """Subscribe to a subject for the block, and answer each message."""
    ready, finished = threading.Event(), threading.Event()

    async def respond(message: Any) -> None:
        await message.respond(answer)

    async def serve() -> None:
        client = await nats_py.connect(url)
        await client.subscribe(subject, cb=respond)
        await client.flush()
        ready.set()
        await asyncio.to_thread(finished.wait)
        await client.close()

    thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
    thread.start()
    try:
        assert ready.wait(60), "the subscriber did not start"
        yield
    finally:
        finished.set()
        thread.join()
