"""Send one message to one endpoint, so that a failing endpoint delays only its own messages.

A worker first claims the right to send, under the endpoint's lock. An endpoint has few requests at
a time, one while it is failing, and none while it rests after a failure. So a hundred messages to a
dead endpoint cost one time-out for each rest, and the rests grow to an hour.
"""

from __future__ import annotations

import random
import time
from contextlib import suppress
from datetime import timedelta
from uuid import UUID

from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from outbox import Receipt, RetryAfter, emit
from outbox.sinks import signatures
from webhooks import log, posting
from webhooks.events import EndpointDisabled
from webhooks.models import Endpoint, Message
from webhooks.posting import Answer

#: Requests to one endpoint at the same time.
MOST_AT_ONCE = 2
#: Requests to the endpoints of one owner at the same time.
MOST_OF_ONE_OWNER = 2
FIRST_REST = timedelta(seconds=5)
LONGEST_REST = timedelta(hours=1)
#: After this time without success a failing endpoint is disabled, and a message is given up.
GIVE_UP_AFTER = timedelta(days=3)

State = Message.State


class NotDelivered(Exception):
    """The endpoint did not accept the message; it is retried later."""


class Postponed(RetryAfter):
    """The endpoint rests after a failure, or is busy. Random delays spread the retries."""


class _NotSettled(Exception):
    """An answer that would have been final needs another attempt."""


class EndpointRests(Postponed):
    """The endpoint rests. That may last, so it is logged for its owner."""


def lease_seconds() -> float:
    """Return the lease of one run: the request, and the database work around it."""
    return 3 * posting.timeout_seconds() + 30


def send(*, message_id: UUID, receipt: Receipt) -> None:
    """Send a waiting message.

    Raises:
        NotDelivered, Postponed: the outbox retries.
    """
    try:
        message = _begin(message_id)
    except EndpointRests as postponed:
        log.log_postponement(message_id, why=str(postponed))
        raise
    if message is None:
        with receipt:
            return
    answer = _post(message)
    if answer.is_success or answer.is_gone or _is_old(message):
        with suppress(_NotSettled), receipt:
            if not _record(message, answer):
                raise _NotSettled
            return
    _record(message, answer)
    raise NotDelivered(answer.error)


@transaction.atomic(durable=True)
def _begin(message_id: UUID) -> Message | None:
    """Commit that this worker sends it now. Return None if there is nothing to send."""
    try:
        known = Message.objects.get(pk=message_id)
        endpoint = Endpoint.objects.locked(known.endpoint_id)
    except (Message.DoesNotExist, Endpoint.DoesNotExist):  # removed with its messages
        return None
    message = Message.objects.get(pk=message_id)
    if message.state != State.WAITING:
        return None
    if not endpoint.enabled or not endpoint.owner.is_active:
        log.log_dropped(message, endpoint)
        message.settle(State.DROPPED)
        return None
    _raise_if_postponed(endpoint, message)
    message.endpoint = endpoint
    message.attempts += 1
    message.sending_until = timezone.now() + timedelta(seconds=lease_seconds())
    message.save(update_fields=["attempts", "sending_until"])
    return message


def _raise_if_postponed(endpoint: Endpoint, message: Message) -> None:
    now = timezone.now()
    if endpoint.rests_until and now < endpoint.rests_until:
        left = (endpoint.rests_until - now).total_seconds()
        text = _("The endpoint failed. The next attempt is after %(time)s UTC.")
        facts = {"time": f"{endpoint.rests_until:%H:%M:%S}"}
        raise EndpointRests(left + random.uniform(0, 5 + left / 2), text % facts)
    sending = endpoint.messages.filter(sending_until__gt=now).exclude(pk=message.pk).count()
    if sending >= (1 if endpoint.failures else MOST_AT_ONCE):
        raise Postponed(random.uniform(1, 20), _("The endpoint is busy with other messages."))


def _post(message: Message) -> Answer:
    """Send the request, with no transaction open. Timestamp and signatures are of this attempt."""
    body = message.body.encode()
    headers = signatures.headers(
        message_id=str(message.pk),
        timestamp=int(time.time()),
        body=body,
        keys=message.endpoint.keys(timezone.now()),
    )
    return posting.post(message.endpoint.url, body=body, headers=headers)


@transaction.atomic
def _record(message: Message, answer: Answer) -> bool:
    """Store an answer; return whether the message needs no further attempt."""
    try:
        endpoint = Endpoint.objects.locked(message.endpoint_id)
    except Endpoint.DoesNotExist:  # removed meanwhile, with its messages
        return True
    log.log_attempt(message, answer)
    message.sending_until = None
    message.save(update_fields=["sending_until"])
    # The owner may have changed the URL meanwhile. Then the answer says nothing about the new one.
    is_of_its_url = endpoint.url == message.endpoint.url
    if is_of_its_url:
        _record_of_endpoint(endpoint, answer)
    if answer.is_success:
        message.settle(State.SENT)
    elif answer.is_gone and is_of_its_url:
        message.settle(State.DROPPED)
    elif _is_old(message):
        message.settle(State.GIVEN_UP)
    return message.state != State.WAITING


def _record_of_endpoint(endpoint: Endpoint, answer: Answer) -> None:
    if answer.status is not None:
        endpoint.url_state = Endpoint.UrlState.ALLOWED
    if answer.is_success:
        endpoint.record_success()
    else:
        _record_failure(endpoint, answer)
    endpoint.save()


def _record_failure(endpoint: Endpoint, answer: Answer) -> None:
    endpoint.record_failure(answer.error, rest=_rest(endpoint.failures + 1, answer.retry_after))
    if answer.is_gone:
        _disable(endpoint, Endpoint.Disabled.GONE)
    elif endpoint.failing_since and timezone.now() - endpoint.failing_since >= GIVE_UP_AFTER:
        _disable(endpoint, Endpoint.Disabled.FAILING)


def _disable(endpoint: Endpoint, because: Endpoint.Disabled) -> None:
    if endpoint.enabled:
        endpoint.disable(because=because, note=endpoint.last_failure)
        emit(EndpointDisabled(endpoint_id=endpoint.pk, because=because))


def _rest(failures: int, retry_after: float) -> timedelta:
    """Return the rest: doubled with each failure in a row, or `retry_after` if that is longer."""
    own: timedelta = FIRST_REST * 2 ** min(failures - 1, 20)
    return min(max(own, timedelta(seconds=retry_after)), LONGEST_REST)


def _is_old(message: Message) -> bool:
    return timezone.now() - message.created_at >= GIVE_UP_AFTER
