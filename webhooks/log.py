"""The log for an endpoint's owner and staff: each request, and why one was not made."""

from __future__ import annotations

from uuid import UUID

from django.db import transaction
from django.utils.translation import gettext as _

from webhooks.models import Attempt, Endpoint, Message
from webhooks.posting import Answer


def log_attempt(message: Message, answer: Answer) -> None:
    _store(
        message,
        number=message.attempts,
        status_code=answer.status,
        error=answer.error,
        duration_ms=round(answer.seconds * 1000),
    )


@transaction.atomic
def log_postponement(message_id: UUID, *, why: str) -> None:
    """Log why the next attempt is delayed. Log it once, however often it is delayed."""
    known = Message.objects.filter(pk=message_id).first()
    if known is None or not Endpoint.objects.select_for_update().filter(pk=known.endpoint_id):
        return  # removed. Its removal also locks the endpoint first.
    message = Message.objects.select_for_update().filter(pk=message_id).first()
    if message and not message.log.filter(number__gt=message.attempts).exists():
        error = _("Not sent yet. %(why)s") % {"why": why}
        _store(message, number=message.attempts + 1, error=error)


def log_dropped(message: Message, endpoint: Endpoint) -> None:
    """Log why there is no further attempt."""
    _store(message, number=message.attempts + 1, error=_why_dropped(endpoint))


def _why_dropped(endpoint: Endpoint) -> str:
    if endpoint.enabled:
        return _("Not sent: the account of the webhook's owner is not active.")
    text = _("Not sent: the webhook is disabled (%(because)s).")
    if endpoint.disabled_note:
        text = _("Not sent: the webhook is disabled (%(because)s: %(note)s).")
    facts = {"because": endpoint.get_disabled_because_display(), "note": endpoint.disabled_note}
    return text % facts


def _store(
    message: Message,
    *,
    number: int,
    error: str,
    status_code: int | None = None,
    duration_ms: int = 0,
) -> None:
    Attempt.objects.create(
        endpoint_id=message.endpoint_id,
        message=message,
        number=number,
        status_code=status_code,
        error=error[:300],
        duration_ms=duration_ms,
    )
