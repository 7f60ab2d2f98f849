"""Amazon SQS as the broker of a stack: moto's server on loopback, with queues that exist.

moto keeps its queues in memory. So an `answers()` after a restart creates them again.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Mapping, Sequence
from functools import cached_property
from importlib.util import find_spec
from typing import Any, NoReturn

import pytest

from outbox.transports.sqs import queue_name
from shop.up.ports import HOST, free_port
from tests.chaos.wiretap import Wiretap

REGION = "eu-west-1"
ACCOUNT = "123456789012"
#: Seconds; as the default of the shop.
VISIBILITY = 21600

#: Module that a worker, or moto's server, needs, and its package.
_NEEDED = {"boto3": "boto3", "pycurl": "pycurl", "moto.server": "moto[sns,sqs]"}


def missing() -> str:
    """Return a sentence about the packages that are not installed; "" if none is missing."""
    lacking = [package for module, package in _NEEDED.items() if not _is_installed(module)]
    return f"Tests with SQS need {', '.join(lacking)}." if lacking else ""


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # the package that contains it
        return False


class Sqs:
    """A new server on a free port."""

    variables: Mapping[str, str] = {"MOTO_ACCOUNT_ID": ACCOUNT}

    def __init__(self, *, queues: Sequence[str]) -> None:
        self._names = {queue: queue_name(queue) for queue in queues}
        port = free_port()
        self.url = f"http://{HOST}:{port}"
        self.command = [sys.executable, "-m", "moto.server", "-H", HOST, "-p", str(port)]
        self.settings = {
            "SQS_URL": f"sqs://test:test@{HOST}:{port}",
            "SQS_REGION": REGION,
            "SQS_QUEUE_URL": f"{self.url}/{ACCOUNT}/{{queue}}",
            "SQS_QUEUES": ",".join(queues),
            "SQS_VISIBILITY_SECONDS": str(VISIBILITY),
        }

    @cached_property
    def client(self) -> Any:
        import boto3
        from botocore.config import Config

        return boto3.client(
            "sqs",
            endpoint_url=self.url,
            region_name=REGION,
            aws_access_key_id="test",
            aws_secret_access_key="test",
            config=Config(connect_timeout=2, read_timeout=5, retries={"total_max_attempts": 1}),
        )

    def answers(self) -> bool:
        from botocore.exceptions import BotoCoreError, ClientError

        with contextlib.suppress(BotoCoreError, ClientError):
            for name in self._names.values():
                attributes = {"VisibilityTimeout": str(VISIBILITY)}
                self.client.create_queue(QueueName=name, Attributes=attributes)
            return True
        return False

    def wipe(self) -> None:
        """Take every message that waits in a queue: SQS allows a purge only once a minute."""
        for url in map(self.queue_url, self._names):
            while taken := self._receive(url):
                entries = [
                    {"Id": str(number), "ReceiptHandle": message["ReceiptHandle"]}
                    for number, message in enumerate(taken)
                ]
                self.client.delete_message_batch(QueueUrl=url, Entries=entries)

    def _receive(self, url: str) -> list[dict[str, Any]]:
        answer = self.client.receive_message(QueueUrl=url, MaxNumberOfMessages=10)
        return list(answer.get("Messages", ()))

    def forget(self) -> None:
        """Do nothing: moto keeps its messages in memory, so it starts empty."""

    def cut_clients(self) -> NoReturn:
        """Fail: each request of SQS may use a new connection."""
        raise NotImplementedError("A client of SQS keeps no connection.")

    def queue_length(self, queue: str) -> int:
        return self.number(queue, "ApproximateNumberOfMessages")

    def number(self, queue: str, attribute: str) -> int:
        """Return an attribute of a queue that is a number."""
        answer = self.client.get_queue_attributes(
            QueueUrl=self.queue_url(queue), AttributeNames=[attribute]
        )
        return int(answer["Attributes"][attribute])

    def queue_url(self, queue: str) -> str:
        return f"{self.url}/{ACCOUNT}/{self._names[queue]}"

    def wiretap(self) -> Wiretap:
        """Skip the test: a message of SQS can be read only by its consumer."""
        pytest.skip("SQS lets nobody read a message without hiding it from the workers.")

    def clean_up(self) -> None:
        """Do nothing: this broker leaves no data."""
