"""The interface of a stack's broker, and Valkey from the wheel. RabbitMQ is in rabbitmq.py."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import redis

from shop.up import broker as brokers
from tests.chaos.wiretap import Wiretap
from tests.chaos.wiretap_redis import RedisWiretap


class Broker(Protocol):
    """Started by `command` within `variables`; `settings` is what the shop's settings read.

    Without a command it is somebody else's: it is neither started nor stopped.
    """

    @property
    def command(self) -> Sequence[str]: ...
    @property
    def variables(self) -> Mapping[str, str]: ...
    @property
    def settings(self) -> Mapping[str, str]: ...

    def answers(self) -> bool: ...
    def wipe(self) -> None: ...
    def forget(self) -> None: ...
    def cut_clients(self) -> None: ...
    def queue_length(self, queue: str) -> int: ...
    def wiretap(self) -> Wiretap: ...
    def clean_up(self) -> None: ...


class Valkey:
    def __init__(self, folder: Path) -> None:
        chosen = brokers.choose({}, folder)
        assert chosen.program is not None
        self._folder = folder
        self.command = list(chosen.program.command)
        self.variables: Mapping[str, str] = {}
        self.settings = {"REDIS_URL": chosen.variables["REDIS_URL"], "AMQP_URL": ""}
        self.url = chosen.variables["REDIS_URL"]

    def answers(self) -> bool:
        with (
            contextlib.suppress(redis.RedisError),
            redis.Redis.from_url(self.url, socket_timeout=1) as client,
        ):
            return bool(client.ping())
        return False

    def wipe(self) -> None:
        """FLUSHALL: delete every message and the broker's metadata."""
        with redis.Redis.from_url(self.url) as client:
            client.flushall()

    def forget(self) -> None:
        """Delete the files of a stopped broker, so that it starts empty."""
        shutil.rmtree(self._folder / "appendonlydir", ignore_errors=True)

    def cut_clients(self) -> None:
        """CLIENT KILL, all of them."""
        with redis.Redis.from_url(self.url) as client:
            for kind in ("normal", "pubsub"):
                client.execute_command("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")

    def queue_length(self, queue: str) -> int:
        with redis.Redis.from_url(self.url) as client:
            return int(client.llen(queue))

    def wiretap(self) -> Wiretap:
        """Return the wiretap that records, repeats and shuffles messages."""
        return RedisWiretap(self.url)

    def clean_up(self) -> None:
        """Do nothing: this broker leaves no data."""
