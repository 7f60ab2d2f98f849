"""Look up the host of an endpoint's URL, in a worker: a name server may be slow, or hang.

The result is the endpoint's `url_state`, with the reason in `last_failure`. Owner and staff see
both. The check is no protection: each sending resolves the name and checks its addresses again.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from uuid import UUID

from django.utils import timezone

from outbox import Receipt, emit
from webhooks.addresses import AddressRefused, resolve
from webhooks.events import EndpointDisabled
from webhooks.models import Endpoint

logger = logging.getLogger(__name__)

#: Time limit of a look-up, in seconds.
LOOKUP_SECONDS = 5.0
#: Seconds for the look-up and the database work around it.
LEASE_SECONDS = 30.0

UrlState = Endpoint.UrlState


@dataclass(frozen=True, kw_only=True)
class CheckResult:
    """Whether a URL is allowed.

    Attributes:
        state: the endpoint's new state.
        reason: why the URL is not allowed, for the owner and staff; empty if it is.
        cause: the name server's error, for the log.
    """

    state: Endpoint.UrlState
    reason: str = ""
    cause: str = ""


def check(*, endpoint_id: UUID, receipt: Receipt) -> None:
    """Check the URL unless it is checked. No transaction is open during the look-up."""
    endpoint = Endpoint.objects.filter(pk=endpoint_id, url_state=UrlState.UNCHECKED).first()
    if endpoint is None:
        with receipt:
            return
    result = _look_up(endpoint.url)
    with receipt:
        is_recorded = _record(endpoint_id, url=endpoint.url, result=result)
    if is_recorded and result.reason:
        _log(endpoint, result)


def _look_up(url: str) -> CheckResult:
    try:
        resolve(url, seconds=LOOKUP_SECONDS)
    except AddressRefused as refusal:
        return CheckResult(state=UrlState.REFUSED, reason=str(refusal))
    except OSError as error:
        cause = error.__cause__ or f"no answer within {LOOKUP_SECONDS:g} s"
        return CheckResult(state=UrlState.UNRESOLVED, reason=str(error), cause=str(cause))
    return CheckResult(state=UrlState.ALLOWED)


def _record(endpoint_id: UUID, *, url: str, result: CheckResult) -> bool:
    """Store the result. Return False if the endpoint was removed or changed meanwhile."""
    try:
        endpoint = Endpoint.objects.locked(endpoint_id)
    except Endpoint.DoesNotExist:
        return False
    if endpoint.url != url or endpoint.url_state != UrlState.UNCHECKED:
        return False  # the change has its own check
    endpoint.url_state = result.state
    if result.reason:
        endpoint.record_error(result.reason, at=timezone.now())
    if result.state is UrlState.REFUSED and endpoint.enabled:
        endpoint.disable(because=Endpoint.Disabled.REFUSED, note=result.reason)
        emit(EndpointDisabled(endpoint_id=endpoint.pk, because=Endpoint.Disabled.REFUSED))
    endpoint.save()
    return True


def _log(endpoint: Endpoint, result: CheckResult) -> None:
    """Log why the URL is not allowed, without the URL: it may contain a secret."""
    who = f"{endpoint.pk} of user:{endpoint.owner_id}"
    if result.state is UrlState.REFUSED:
        logger.warning(
            "The URL of endpoint %s is refused: %s The endpoint is disabled. Its owner has to "
            "correct the URL, or the host's addresses, and enable it again. If the host is one of "
            "ours, add it to WEBHOOK_PRIVATE_HOSTS first.",
            who,
            result.reason,
        )
        return
    logger.warning(
        "The host of endpoint %s cannot be resolved: %s (%s) Messages to it are "
        "still sent. If many endpoints have this problem, check the name server "
        "of the workers of the queue webhooks.http. Otherwise its owner has to "
        "correct the URL.",
        who,
        result.reason,
        result.cause,
    )
