"""Amazon SQS as the broker of a stack: moto's server, with queues that exist before the workers.

moto keeps its queues in memory, so `answers()` creates them again after a restart. A request for
messages takes the longer, the more messages are in the queue: tests with deep queues are slow.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NoReturn

from outbox.transports.sqs import queue_name
from tests.chaos.wiretap import Wiretap
from tests.servers.aws import REGION, AwsServer
from tests.servers.server import ServerMissing

ACCOUNT = "123456789012"
#: Seconds, as the default of the shop.
VISIBILITY = 21600


class Sqs:
    """A new server on a free port.

    Args:
        folder: for the server.
        queues: names of queues as handlers have them.
        visibility: the visibility timeout of each queue, in seconds.

    Raises:
        ServerMissing: moto, or a package of Celery's transport, is not installed.
    """

    variables: Mapping[str, str] = {"MOTO_ACCOUNT_ID": ACCOUNT}

    def __init__(
        self, folder: Path, *, queues: Sequence[str], visibility: int = VISIBILITY
    ) -> None:
        if find_spec("boto3") is None or find_spec("pycurl") is None:
            raise ServerMissing('Celery over SQS needs the wheels "boto3" and "pycurl".')
        self._server = AwsServer(folder)
        self._queues = queues
        self._visibility = visibility
        self.command = self._server.command
        self.settings = {
            "SQS_URL": self._server.url.replace("http://", "sqs://test-key:test-secret@"),
            "SQS_REGION": REGION,
            "SQS_QUEUE_URL": f"{self._server.url}/{ACCOUNT}/{{queue}}",
            "SQS_QUEUES": ",".join(queues),
            "SQS_VISIBILITY_SECONDS": str(visibility),
        }

    @cached_property
    def client(self) -> Any:
        return self._server.client("sqs")

    def answers(self) -> bool:
        """Return whether the server runs, and then its queues exist."""
        if not self._server.answers():
            return False
        for queue in self._queues:
            attributes = {"VisibilityTimeout": str(self._visibility)}
            self.client.create_queue(QueueName=queue_name(queue), Attributes=attributes)
        return True

    def wipe(self) -> None:
        """Take every message that waits in a queue: SQS allows a purge only once a minute."""
        for url in map(self.queue_url, self._queues):
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
        answer = self.client.get_queue_attributes(
            QueueUrl=self.queue_url(queue), AttributeNames=["ApproximateNumberOfMessages"]
        )
        return int(answer["Attributes"]["ApproximateNumberOfMessages"])

    def queue_url(self, queue: str) -> str:
        return f"{self._server.url}/{ACCOUNT}/{queue_name(queue)}"

    def wiretap(self) -> Wiretap:
        """Fail: whoever reads a message of SQS hides it from the workers."""
        raise NotImplementedError("SQS lets no third party read a message.")

    def clean_up(self) -> None:
        """Do nothing: this broker leaves no data."""
