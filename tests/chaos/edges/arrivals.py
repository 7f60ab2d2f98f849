"""What has arrived in other systems: CloudEvents, read without any code of the outbox."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tests.servers.aws import AwsServer


@dataclass(frozen=True, kw_only=True)
class Arrival:
    """An event as a system has stored it. `number` is 0 for an event without one."""

    id: str
    name: str
    ship: str
    number: int = 0


def in_binary(attributes: Mapping[str, str], body: bytes, *, prefix: str) -> Arrival:
    """Return the event of a message whose headers are the attributes."""
    return _arrival(attributes[f"{prefix}id"], attributes[f"{prefix}type"], json.loads(body))


def in_structure(body: str | bytes) -> Arrival:
    """Return the event of a message whose body has everything."""
    whole = json.loads(body)
    return _arrival(whole["id"], whole["type"], whole["data"])


def _arrival(id: str, type: str, data: Mapping[str, Any]) -> Arrival:
    name = type.rpartition(".")[0]  # "harbour.ShipSailed.v1"
    return Arrival(id=id, name=name, ship=data["ship"], number=data.get("number", 0))


class Drain(threading.Thread):
    """Empties a queue of SQS all the time: a deep one makes moto slow."""

    def __init__(self, aws: AwsServer, url: str) -> None:
        super().__init__(daemon=True)
        self._sqs, self._url = aws.client("sqs"), url
        self._over = threading.Event()
        self.found: list[Arrival] = []
        self.start()

    def run(self) -> None:
        while not self._over.wait(0.5):
            try:
                self._take_all()
            except Exception:  # the server is frozen: again later
                continue

    def finish(self) -> list[Arrival]:
        """Receive the remaining messages, and return all in the order of their receipt."""
        self._over.set()
        self.join()
        self._take_all()
        return self.found

    def _take_all(self) -> None:
        while taken := self._sqs.receive_message(
            QueueUrl=self._url, MaxNumberOfMessages=10, WaitTimeSeconds=0
        ).get("Messages"):
            self.found += [in_structure(one["Body"]) for one in taken]
            entries = [
                {"Id": str(number), "ReceiptHandle": one["ReceiptHandle"]}
                for number, one in enumerate(taken)
            ]
            self._sqs.delete_message_batch(QueueUrl=self._url, Entries=entries)
