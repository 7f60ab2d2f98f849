"""The wiretap of Redis: Celery has a list for each queue, and a hash of unacknowledged messages."""

from __future__ import annotations

import contextlib
import json
from random import Random
from typing import Any
from uuid import uuid4

import redis

from tests.chaos.wiretap import MOST_KEPT, MOST_REPLAYED, PATIENCE


class RedisWiretap:
    def __init__(self, url: str) -> None:
        self._redis = redis.Redis.from_url(
            url, socket_timeout=PATIENCE, socket_connect_timeout=PATIENCE
        )
        self._caught: dict[str, tuple[str, dict[str, Any]]] = {}

    def record(self) -> None:
        """Record the waiting and the running messages."""
        with contextlib.suppress(redis.RedisError):
            for queue in self._queues():
                for raw in self._redis.lrange(queue, 0, 50):
                    self._keep(queue, json.loads(raw))
            for raw in self._redis.hvals("unacked")[:50]:
                message, _exchange, queue = json.loads(raw)
                self._keep(queue, message)

    def replay(self, rng: Random) -> None:
        """Send the recorded messages again, in another order."""
        caught = list(self._caught.values())
        with contextlib.suppress(redis.RedisError):
            for queue, message in rng.sample(caught, min(MOST_REPLAYED, len(caught))):
                message["properties"]["delivery_tag"] = str(uuid4())
                self._redis.lpush(queue, json.dumps(message))

    def shuffle(self, rng: Random) -> None:
        """Reverse the order of every queue, each in one step."""
        with contextlib.suppress(redis.RedisError):
            for queue in self._queues():
                self._redis.rename(queue, aside := f"{queue}.aside")
                messages = list(self._redis.lrange(aside, 0, -1))
                rng.shuffle(messages)
                self._redis.rpush(queue, *messages)
                self._redis.delete(aside)

    def _keep(self, queue: str, message: dict[str, Any]) -> None:
        if len(self._caught) < MOST_KEPT:
            self._caught[message["properties"]["delivery_tag"]] = queue, message

    def _queues(self) -> list[str]:
        return [key.decode() for key in self._redis.scan_iter(_type="list")]
