"""Checks of Amazon SQS as the transport of Celery, by `manage.py check --deploy`. The messages:

E060 a package of the transport is not installed
E061 predefined_queues lacks a queue of the installed handlers
E062 the visibility timeout is not longer than the longest message of a queue
W060 a queue is a FIFO queue
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from typing import Any

from django.core.checks import CheckMessage, Error, Warning, register

from outbox import subscriptions
from outbox.transports import sqs
from outbox.transports.base import QUEUE
from outbox.transports.names import celery_in_use

_OPTIONS = "broker_transport_options"


@register("outbox", deploy=True)
def check_sqs(**_kwargs: Any) -> list[CheckMessage]:
    """Find settings with which workers on SQS do not start, or receive running messages again."""
    options = _transport_options()
    if options is None:
        return []
    return [*_packages(), *_queues(options), *_visibility(options), *_fifo()]


def _transport_options() -> Mapping[str, Any] | None:
    """Return the transport's options if the broker of the Celery app is SQS, else None."""
    app = celery_in_use()
    if app is None:
        return None
    conf = app.conf
    url = str(conf.broker_write_url or conf.broker_url or "")
    return dict(conf.broker_transport_options or {}) if url.startswith("sqs:") else None


def _packages() -> Iterator[CheckMessage]:
    missing = [name for name in ("boto3", "pycurl") if find_spec(name) is None]
    if missing:
        yield Error(
            f'Celery\'s SQS transport needs {" and ".join(missing)} (extra "sqs"). Without it no '
            "worker starts.",
            hint='Install it: pip install "celery[sqs]"',
            obj="settings",
            id="outbox.E060",
        )


def _queues(options: Mapping[str, Any]) -> Iterator[CheckMessage]:
    defined = options.get("predefined_queues") or {}
    prefix = options.get("queue_name_prefix", "")
    for queue, handler in sorted(_queues_of_code().items()):
        name = sqs.queue_name(queue, prefix=prefix)
        if defined and name not in defined:
            yield Error(
                f"The queue {queue} of {handler} is not in predefined_queues. No message of it "
                "can be sent.",
                hint=f'Create the queue in SQS, and add "{name}" with its URL to '
                f'{_OPTIONS}["predefined_queues"].',
                obj="settings",
                id="outbox.E061",
            )


def _queues_of_code() -> dict[str, str]:
    """Return one user of each queue: the relay, or the pinned name of a handler."""
    return {QUEUE: "the relay"} | {one.queue: one.name for one in subscriptions.registry}


def _visibility(options: Mapping[str, Any]) -> Iterator[CheckMessage]:
    timeout = float(options.get("visibility_timeout") or sqs.DEFAULT_VISIBILITY)
    for queue, longest in sorted(sqs.longest_messages().items()):
        if timeout <= longest.seconds and timeout < sqs.LONGEST_VISIBILITY:
            yield Error(
                f"SQS sends a message of the queue {queue} again after {timeout:g} s. A message of "
                f"{longest.handler} may take {longest.seconds:g} s ({longest.parts}). A second "
                "worker then receives it, and ignores it because of its token.",
                hint=f'Raise {_OPTIONS}["visibility_timeout"] and the VisibilityTimeout of the '
                f"queue above {longest.seconds:g}, to {sqs.LONGEST_VISIBILITY} at most. Or lower "
                "lease= or batch= of the handler.",
                obj="settings",
                id="outbox.E062",
            )


def _fifo() -> Iterator[CheckMessage]:
    for queue, handler in sorted(_queues_of_code().items()):
        if queue.endswith(".fifo"):
            yield Warning(
                f"The queue {queue} of {handler} is a FIFO queue. Celery sends all messages in one "
                "message group, so one worker at a time processes them.",
                hint="Use a standard queue. For order per key use @subscribe(ordered=True).",
                obj="settings",
                id="outbox.W060",
            )
