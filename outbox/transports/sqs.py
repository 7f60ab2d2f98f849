"""Amazon SQS as the transport of Celery: its options, its limits, and the longest messages.

It imports neither Celery nor an AWS library, so settings and checks can use it. The figures are
those of the SQS Developer Guide, "Amazon SQS message quotas" and "Amazon SQS visibility timeout".
"""

from __future__ import annotations

import string
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from outbox import subscriptions
from outbox.subscriptions import Handler

#: Longest visibility timeout of a queue, in seconds: twelve hours.
LONGEST_VISIBILITY = 43200
#: Visibility timeout, in seconds, that Celery gives a queue that it creates without the option.
DEFAULT_VISIBILITY = 1800
#: Seconds that a request for messages waits in SQS.
_WAIT_SECONDS = 10
#: Seconds between two requests, and between two looks whether a busy worker may take a message.
#: With Celery's default, a second, a worker takes its prefetch count once a second.
_PAUSE_SECONDS = 0.05
_REPLACED = {ord(one): "-" if one in "-." else "_" for one in string.punctuation}
_LOCAL_HOSTS = {"127.0.0.1", "localhost", "::1"}


def transport_options(
    url: str,
    *,
    region: str = "",
    queue_url: str = "",
    queues: Iterable[str] = (),
    visibility_timeout: int = 21600,
) -> dict[str, Any]:
    """Return Celery's `broker_transport_options` for SQS.

    Args:
        url: the broker's URL, `sqs://...`. A URL with a host uses TLS, unless that is this host.
        region: the region of the queues; "" leaves it to the environment.
        queue_url: the URL of a queue, with `{queue}` for its name. The queues then exist, and
            Celery creates none. "": Celery creates each queue that is missing.
        queues: names of all queues, as handlers have them.
        visibility_timeout: the visibility timeout of the queues, in seconds. With `queue_url` the
            queues have it already; Celery sets it only for a queue that it creates.

    Raises:
        ValueError: `queue_url` has no `{queue}`.
    """
    options: dict[str, Any] = {
        "visibility_timeout": visibility_timeout,
        "wait_time_seconds": _WAIT_SECONDS,
        "polling_interval": _PAUSE_SECONDS,
        "is_secure": urlsplit(url).hostname not in _LOCAL_HOSTS,
        # A publish fails instead of hanging, and Celery repeats none: the relay sends it again.
        "client-config": {
            "connect_timeout": 3,
            "read_timeout": 5,
            "retries": {"total_max_attempts": 1},
        },
    }
    if region:
        options["region"] = region
    if queue_url:
        if "{queue}" not in queue_url:
            raise ValueError(f"The URL of the queues ({queue_url}) has no {{queue}} for the name.")
        names = {queue_name(queue) for queue in queues}
        options["predefined_queues"] = {
            name: {"url": queue_url.replace("{queue}", name)} for name in sorted(names)
        }
    return options


def queue_name(queue: str, *, prefix: str = "") -> str:
    """Return the name in SQS of a handler's queue. As in kombu, a dot becomes a dash."""
    stem, suffix = (queue[:-5], ".fifo") if queue.endswith(".fifo") else (queue, "")
    return (prefix + stem).translate(_REPLACED) + suffix


@dataclass(frozen=True)
class LongestMessage:
    """The message of a queue that may take longest.

    Attributes:
        handler: pinned name of its handler.
        seconds: the lease of its deliveries, and the time limit of each call of the handler.
        parts: the sum in words.
    """

    handler: str
    seconds: float
    parts: str


def longest_messages() -> dict[str, LongestMessage]:
    """Return the longest message of each queue of the installed handlers."""
    found: dict[str, LongestMessage] = {}
    for handler in subscriptions.registry:
        message = _longest(handler)
        known = found.get(handler.queue)
        if known is None or known.seconds < message.seconds:
            found[handler.queue] = message
    return found


def _longest(handler: Handler) -> LongestMessage:
    """A message waits at most for its lease, and then runs each call up to its time limit."""
    calls = 1 if handler.bulk else handler.batch
    parts = f"lease {handler.lease:g} s + {calls} x time limit {handler.time_limit:g} s"
    seconds = handler.lease + calls * handler.time_limit
    return LongestMessage(handler.name, seconds, parts)
