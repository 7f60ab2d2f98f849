"""Findings about the queues of Amazon SQS: whether they exist, and their visibility timeout."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from django.utils.translation import gettext as _

from outbox.subscriptions import queues
from outbox.transports.base import QUEUE
from outbox.transports.sqs import LONGEST_VISIBILITY, longest_messages, queue_name

from .findings import Finding, error, ok, warning

_PART = "broker"


def examine_queues(channel: Any) -> Iterator[Finding]:
    """Ask SQS for the attributes of each queue of this code.

    Args:
        channel: an open channel of kombu's SQS transport.
    """
    found: list[Finding] = []
    for queue in sorted({QUEUE}.union(*queues().values())):
        found += _examine(channel, queue)
    yield from found or [
        ok(_PART, _("Each queue exists, and its visibility timeout is long enough."))
    ]


def _examine(channel: Any, queue: str) -> Iterator[Finding]:
    name, defined = queue_name(queue, prefix=channel.queue_name_prefix), channel.predefined_queues
    if defined and name not in defined:
        yield _is_not_defined(queue)
        return
    client = channel.sqs(queue=name)
    try:
        url = defined[name]["url"] if defined else client.get_queue_url(QueueName=name)["QueueUrl"]
        answer = client.get_queue_attributes(QueueUrl=url, AttributeNames=["VisibilityTimeout"])
    except client.exceptions.ClientError as caught:
        yield _is_refused(queue, code=caught.response.get("Error", {}).get("Code", "unknown"))
    else:
        yield from of_queue(queue, answer["Attributes"])


def of_queue(queue: str, attributes: Mapping[str, str]) -> Iterator[Finding]:
    """Examine the attributes of one queue, as SQS returns them."""
    timeout, longest = float(attributes["VisibilityTimeout"]), longest_messages().get(queue)
    if longest and timeout <= longest.seconds and timeout < LONGEST_VISIBILITY:
        yield warning(
            _PART,
            _(
                "The queue %(queue)s has a visibility timeout of %(timeout)s s. A "
                "message of %(handler)s may take %(seconds)s s (%(parts)s)."
            )
            % {
                "queue": queue,
                "timeout": f"{timeout:g}",
                "handler": longest.handler,
                "seconds": f"{longest.seconds:g}",
                "parts": longest.parts,
            },
            _(
                "Raise the VisibilityTimeout of the queue, to "
                "%(longest_visibility)s at most. Until then a worker may receive a "
                "running message again. It ignores it."
            )
            % {"longest_visibility": LONGEST_VISIBILITY},
        )


def _is_refused(queue: str, *, code: str) -> Finding:
    return error(
        _PART,
        _("SQS does not return the attributes of the queue %(queue)s: %(code)s.")
        % {"queue": queue, "code": code},
        _(
            "Create the queue, or allow sqs:GetQueueAttributes for it. "
            "Deliveries wait in the database."
        ),
    )


def _is_not_defined(queue: str) -> Finding:
    return error(
        _PART,
        _("The queue %(queue)s is not in predefined_queues. No message of it can be sent.")
        % {"queue": queue},
        _('Create it in SQS, and add "%(queue_name)s" to predefined_queues.')
        % {"queue_name": queue_name(queue)},
    )
