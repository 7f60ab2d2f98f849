"""Publish the messages of a pass, after its commit, and hand back what the broker does not take.

A pass ends soon also if the broker refuses messages, hangs or is slow. The leases of all its
deliveries have begun with the pass.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import zip_longest

from outbox.counting import counters
from outbox.deliveries import failpoints, settlement
from outbox.deliveries.transient_errors import retry_transient
from outbox.transports.base import Message, QueueUnavailable

logger = logging.getLogger("outbox.relay")

_REFUSED = (
    "The broker refuses messages for queue %s (%s: %s). Their deliveries are due again in a few "
    "seconds. Other queues are not affected. Compare the queue's arguments and the permissions of "
    "the broker's user with the settings."
)
#: The error names the next step.
_UNAVAILABLE = (
    "The broker takes no message for queue %s (%s: %s) The relay tries again within a minute. "
    "Other queues are not affected."
)
_SLOW = (
    "The broker has taken %d of %d messages of a pass in %.1f s. Later passes send the others. If "
    "this is repeated, the broker is slow: check its disk, its memory and the network."
)
_LOG_SECONDS = 10.0
#: When the refusal of a queue, or a slow broker (`_ANY`), was last logged by this process.
_logged_at: dict[str, float] = {}
_ANY = ""

#: A broker that took so many seconds to refuse messages in a pass is not asked any more in it.
_BROKER_SECONDS = 2.0
#: Seconds for which a pass waits for queues that take no message. The other messages are due again
#: after some seconds. The next pass does not ask the same queues again.
_QUEUES_SECONDS = 10.0
#: Seconds after which a pass publishes no further message, and their maximum as a share of the
#: shortest lease. A message needs the rest of the lease to reach a worker.
_PUBLISH_SECONDS, _SHARE_OF_LEASE = 10.0, 1 / 4

#: The subscription at which a slow broker has stopped the latest pass, by database. The next one
#: begins with it, so that each handler gets its turn.
_stopped_at: dict[str, int] = {}

#: The queues that took no message when they were last asked.
_refusing: set[str] = set()

Publish = Callable[[Message], None]


class BrokerUnavailable(Exception):
    """The broker took no message. Nothing is lost: the claimed deliveries are due again soon."""


def in_turn(messages: Mapping[int, Iterable[Message]], *, using: str) -> list[Message]:
    """Return messages in the order of publishing: one of each subscription in turn.

    After a pass that a slow broker has stopped, the messages of each subscription are in a random
    order. Otherwise the first share, or new deliveries before retries, would use up each pass.

    Args:
        messages: the messages of each subscription, by its id.
        using: the outbox's database alias.
    """
    first = _stopped_at.get(using)
    each = {pk: [*some] for pk, some in messages.items()}
    if first is not None:
        for some in each.values():
            random.shuffle(some)
    rounds = zip_longest(*(each[pk] for pk in sorted(each, key=lambda pk: (pk < (first or 0), pk))))
    return [one for some in rounds for one in some if one is not None]


def publish_each(
    messages: Sequence[Message], publish: Publish, *, lease: float, using: str
) -> Sequence[Message]:
    """Publish messages; hand back the deliveries of those that the broker did not take.

    A broker may refuse a single queue, whose arguments differ or for which a permission is missing.
    The messages of other queues are published all the same, from the next pass on before those of
    this queue: a pass does not wait for many such queues.

    If the broker is slow, the rest is handed back and due at once. At least one message is
    published.

    Args:
        messages: the messages of a pass, in the order of publishing.
        publish: dispatches one message; any exception means "not taken".
        lease: the shortest lease of a delivery that the pass has sent or started, in seconds.
        using: the outbox's database alias.

    Returns:
        The published messages.

    Raises:
        BrokerUnavailable: it took no message, or it hangs.
    """
    refused: dict[str, Exception] = {}
    published: list[Message] = []
    returned: list[Message] = []
    left: list[Message] = []
    hung = waited = 0.0
    messages = sorted(messages, key=lambda message: message.queue in _refusing)
    most = min(_PUBLISH_SECONDS, lease * _SHARE_OF_LEASE)
    first_began = time.monotonic()
    for message in messages:
        is_late = hung > _BROKER_SECONDS or waited > _QUEUES_SECONDS
        if message.queue in refused or is_late:
            returned.append(message)
            continue
        began = time.monotonic()
        if published and began - first_began > most:
            left.append(message)
            continue
        try:
            publish(message)
        except Exception as error:
            counters.count("broker_failures")
            refused[message.queue] = error
            _refusing.add(message.queue)
            returned.append(message)
            seconds = time.monotonic() - began
            if isinstance(error, QueueUnavailable):  # which is no sign of the broker
                waited += seconds
            else:
                hung += seconds
            continue
        published.append(message)
        _refusing.discard(message.queue)
        counters.count("messages", message.handler)
        counters.count("sent", message.handler, number=len(message.pairs))
        failpoints.reach(failpoints.AFTER_PUBLISH)
    _stopped_at.pop(using, None)
    if left:
        _leave(left, using=using)
        if not refused and _may_log(_ANY):
            seconds = time.monotonic() - first_began
            logger.warning(_SLOW, len(published), len(messages), seconds)
    if not refused:
        return published
    last = next(reversed(refused.values()))
    for queue in {message.queue for message in returned}:
        mine = [message for message in returned if message.queue == queue]
        _return_refused(mine, refused.get(queue, last), using=using)
    is_up = all(isinstance(refusal, QueueUnavailable) for refusal in refused.values())
    if not is_up and (len(returned) == len(messages) or hung > _BROKER_SECONDS):
        raise BrokerUnavailable(f"{type(last).__name__}: {last}") from last
    for queue, refusal in refused.items():
        _log_refusal(queue, refusal)
    return published


def _leave(messages: Sequence[Message], *, using: str) -> None:
    """Leave the deliveries of messages to the next pass, which begins with the first of them."""
    _stopped_at[using] = messages[0].subscription
    note = "a pass of the relay ended before its message was sent: the broker is slow"
    _hand_back(messages, note=note, wait=0.0, using=using)


def _return_refused(messages: Sequence[Message], error: Exception, *, using: str) -> None:
    note = f"the broker refused its message: {type(error).__name__}: {error}"
    _hand_back(messages, note=note, wait=settlement.HAND_BACK_SECONDS, using=using)


def _hand_back(messages: Sequence[Message], *, note: str, wait: float, using: str) -> None:
    pairs = [pair for message in messages for pair in message.pairs]
    # A worker may start some meanwhile: a broker that disconnects may have taken the message.
    back = partial(settlement.hand_back, pairs, note=note, wait=wait, using=using)
    retry_transient(back, using=using)


def _log_refusal(queue: str, refusal: Exception) -> None:
    if _may_log(queue):
        text = _UNAVAILABLE if isinstance(refusal, QueueUnavailable) else _REFUSED
        logger.error(text, queue, type(refusal).__name__, refusal)


def _may_log(subject: str) -> bool:
    """Return whether to log a subject now: once in `_LOG_SECONDS`, since there are many passes."""
    now = time.monotonic()
    is_due = now - _logged_at.get(subject, -_LOG_SECONDS) >= _LOG_SECONDS
    if is_due:
        _logged_at[subject] = now
    return is_due
