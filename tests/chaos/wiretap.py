"""Messages of the broker, captured while they wait or are at work, to be sent again or shuffled."""

from __future__ import annotations

import contextlib
import json
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import redis

MOST_REPLAYED = 40
MOST_KEPT = 500


class Wiretap:
    """Speaks to Celery's keys in Redis: a list for each queue, a hash of what is not acked yet."""

    def __init__(self, url: str) -> None:
        self._redis = redis.Redis.from_url(url, socket_timeout=1, socket_connect_timeout=1)
        self._caught: dict[str, tuple[str, dict[str, Any]]] = {}
        self._over = threading.Event()

    def listen(self) -> None:
        while not self._over.wait(0.02):
            with contextlib.suppress(redis.RedisError):
                self._look()

    def stop(self) -> None:
        self._over.set()

    def replay(self, rng: random.Random) -> None:
        """Send what was caught once more, in another order."""
        caught = list(self._caught.values())
        with contextlib.suppress(redis.RedisError):
            for queue, message in rng.sample(caught, min(MOST_REPLAYED, len(caught))):
                message["properties"]["delivery_tag"] = str(uuid4())
                self._redis.lpush(queue, json.dumps(message))

    def shuffle(self, rng: random.Random) -> None:
        """Turn the order in every queue; each is taken away whole, and nobody reads meanwhile."""
        with contextlib.suppress(redis.RedisError):
            for queue in self._queues():
                self._redis.rename(queue, aside := f"{queue}.aside")
                messages = list(self._redis.lrange(aside, 0, -1))
                rng.shuffle(messages)
                self._redis.rpush(queue, *messages)
                self._redis.delete(aside)

    def _look(self) -> None:
        for queue in self._queues():
            for raw in self._redis.lrange(queue, 0, 50):
                self._keep(queue, json.loads(raw))
        for raw in self._redis.hvals("unacked")[:50]:
            message, _exchange, queue = json.loads(raw)
            self._keep(queue, message)

    def _keep(self, queue: str, message: dict[str, Any]) -> None:
        if len(self._caught) < MOST_KEPT:
            self._caught[message["properties"]["delivery_tag"]] = queue, message

    def _queues(self) -> list[str]:
        return [key.decode() for key in self._redis.scan_iter(_type="list")]


@contextmanager
def listening(url: str) -> Iterator[Wiretap]:
    """Catch messages for the block."""
    tap = Wiretap(url)
    thread = threading.Thread(target=tap.listen, daemon=True)
    thread.start()
    try:
        yield tap
    finally:
        tap.stop()
        thread.join()
