"""kombu's SQS transport, with a worker that survives failed requests for messages.

In kombu 5.7 a request that SQS does not answer, refuses or answers with 5xx raises in the worker's
event loop (`AttributeError: 'list' object has no attribute 'get'`). The worker then ends, or never
asks for messages of that queue again. Here the channel logs the failure and asks again.
`celery.install` selects this class for `sqs://`.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import Any

from kombu.transport import SQS

logger = logging.getLogger("outbox.worker")

#: Seconds after a failed request.
_PAUSE_SECONDS = 1.0
_MOST_CHARACTERS = 200


_Channel: Any = SQS.Channel  # the stubs lack its methods


class Channel(_Channel):  # type: ignore[misc]  # a class without a known type
    """Asks again a second after a failed request."""

    _is_failing = False

    def _loop1(self, queue: str, messages_fetched: int | None = None) -> None:
        if self._is_failing:
            self.hub.call_later(_PAUSE_SECONDS, self._schedule_queue, queue)
        else:
            super()._loop1(queue, messages_fetched)

    def _get_from_sqs(
        self, queue_name: str, queue_url: str, connection: Any, *args: Any, **kwargs: Any
    ) -> Any:
        read = partial(type(connection)._on_list_ready, connection)
        connection._on_list_ready = partial(self._read, read, queue_name)
        return super()._get_from_sqs(queue_name, queue_url, connection, *args, **kwargs)

    def _read(
        self, read: Any, queue: str, parent: Any, markers: Any, operation: str, response: Any
    ) -> dict[str, Any]:
        """Return the parsed answer, or an empty one of a failed request."""
        try:
            answer = read(parent, markers, operation, response)
        except Exception as error:
            self._fail(queue, str(error))
            return {}
        if not isinstance(answer, dict):  # kombu's answer to a time-out and to 5xx is a list
            self._fail(queue, f"HTTP {response.status} {response.reason}")
            return {}
        self._succeed()
        return answer

    def _fail(self, queue: str, reason: str) -> None:
        if not self._is_failing:
            self._is_failing = True
            logger.warning(
                "SQS returned no messages of the queue %s: %s. The worker continues to ask. Check "
                "the network, the credentials and the queue.",
                queue,
                reason[:_MOST_CHARACTERS],
            )

    def _succeed(self) -> None:
        if self._is_failing:
            self._is_failing = False
            logger.info("SQS answers again.")


class Transport(SQS.Transport):
    """kombu's transport with the channel above."""

    Channel = Channel
