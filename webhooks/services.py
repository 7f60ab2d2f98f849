"""Services of webhooks: changes by an owner or staff, and messages to endpoints."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.contrib.auth import get_user_model
from django.contrib.auth.models import AbstractBaseUser
from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone

from orders import queries as orders
from outbox import EventRecord, emit
from outbox.ids import uuid7
from outbox.sinks.signatures import new_secret
from webhooks import addresses, payloads, queries
from webhooks.events import EndpointUrlChanged, MessagesWritten
from webhooks.models import Endpoint, EventType, Message

#: Most endpoints of one user.
MOST_ENDPOINTS = 10
#: How long the previous secret still signs.
OLD_SECRET_LIFE = timedelta(hours=24)
#: How long messages and their attempts are kept; far longer than a message is tried.
MESSAGE_LIFE = timedelta(days=30)
_AT_A_TIME = 500


class TooManyEndpoints(Exception):
    """The user has as many endpoints as one may have."""


class EndpointIsDisabled(Exception):
    """A disabled endpoint is sent nothing."""


class DisabledByStaff(Exception):
    """Staff disabled the endpoint; only they enable it again."""


@transaction.atomic
def add_endpoint(
    *, owner: AbstractBaseUser, url: str, event_types: Iterable[str], description: str = ""
) -> Endpoint:
    """Add an endpoint for the events of its owner's orders. A worker checks its host.

    The caller has checked the URL with `addresses.require_allowed`.

    Raises:
        TooManyEndpoints: the user has MOST_ENDPOINTS already.
        DisabledByStaff: staff disabled an endpoint of the user with this host.
    """
    # The lock keeps two concurrent requests from both passing the limit.
    get_user_model().objects.select_for_update().get(pk=owner.pk)
    existing = queries.endpoints_of(owner)
    if existing.count() >= MOST_ENDPOINTS:
        raise TooManyEndpoints(TooManyEndpoints.__doc__)
    _require_other_host(url, owner_id=owner.pk)
    endpoint = Endpoint.objects.create(
        owner_id=owner.pk, url=url, event_types=sorted(event_types), description=description
    )
    _request_url_check(endpoint)
    return endpoint


@transaction.atomic
def change_endpoint(*, endpoint_id: UUID, changes: Mapping[str, Any]) -> Endpoint:
    """Apply an owner's changes. The caller has checked a URL with `addresses.require_allowed`.

    Raises:
        DisabledByStaff: only staff may enable the endpoint or change its URL, or they disabled
            another endpoint of the owner with the host of the new URL.
    """
    endpoint = Endpoint.objects.locked(endpoint_id)
    wanted, was_enabled = dict(changes), endpoint.enabled
    moves = wanted.get("url", endpoint.url) != endpoint.url
    if moves:
        if endpoint.disabled_because == Endpoint.Disabled.BY_STAFF:
            raise DisabledByStaff(DisabledByStaff.__doc__)
        _require_other_host(wanted["url"], owner_id=endpoint.owner_id)
    enabled = wanted.pop("enabled", endpoint.enabled)
    for name, value in wanted.items():
        setattr(endpoint, name, sorted(value) if name == "event_types" else value)
    if enabled and not endpoint.enabled:
        if endpoint.disabled_because == Endpoint.Disabled.BY_STAFF:
            raise DisabledByStaff(DisabledByStaff.__doc__)
        endpoint.enable()
    elif endpoint.enabled and not enabled:
        endpoint.disable(because=Endpoint.Disabled.BY_OWNER)
    if moves:
        endpoint.reset_failures()  # they belong to the previous receiver
    if moves or endpoint.enabled > was_enabled:
        _request_url_check(endpoint)
    endpoint.save()
    return endpoint


def _require_other_host(url: str, *, owner_id: int) -> None:
    """Raise DisabledByStaff if staff disabled an endpoint of the owner with the URL's host."""
    held = Endpoint.objects.filter(
        owner_id=owner_id, disabled_because=Endpoint.Disabled.BY_STAFF
    ).values_list("url", flat=True)
    if any(_has_host(one, addresses.host_of(url)) for one in held):
        raise DisabledByStaff(DisabledByStaff.__doc__)


def _has_host(url: str, host: str) -> bool:
    try:
        return addresses.host_of(url) == host
    except addresses.AddressRefused:  # the settings allowed it before
        return False


@transaction.atomic
def disable_by_staff(*, endpoint_id: UUID, note: str) -> None:
    endpoint = Endpoint.objects.locked(endpoint_id)
    endpoint.disable(because=Endpoint.Disabled.BY_STAFF, note=note)
    endpoint.save()


@transaction.atomic
def enable_by_staff(*, endpoint_id: UUID) -> None:
    endpoint = Endpoint.objects.locked(endpoint_id)
    endpoint.enable()
    _request_url_check(endpoint)
    endpoint.save()


@transaction.atomic
def rotate_secret(*, endpoint_id: UUID) -> Endpoint:
    """Give the endpoint a new secret. The previous one also signs, for a day.

    The one before no longer signs. So two rotations end a secret that others know.
    """
    endpoint = Endpoint.objects.locked(endpoint_id)
    endpoint.old_secret, endpoint.secret = endpoint.secret, new_secret()
    endpoint.old_secret_until = timezone.now() + OLD_SECRET_LIFE
    endpoint.save()
    return endpoint


@transaction.atomic
def remove_endpoint(*, endpoint_id: UUID) -> None:
    """Delete an endpoint and its messages. Their deliveries then do nothing.

    Raises:
        DisabledByStaff: it is kept with their reason, so that its owner does not add it again.
    """
    if Endpoint.objects.locked(endpoint_id).disabled_because == Endpoint.Disabled.BY_STAFF:
        raise DisabledByStaff(DisabledByStaff.__doc__)
    _delete(Endpoint.objects.filter(pk=endpoint_id))


@transaction.atomic
def forget_owner(*, subject: str) -> None:
    """Delete the endpoints of an owner ("user:7"), with their messages."""
    owner = orders.customer_of(subject)
    if owner is not None:
        _delete(Endpoint.objects.filter(owner_id=owner))


def _delete(endpoints: QuerySet[Endpoint]) -> None:
    """Delete endpoints. Lock them before their messages, as workers that send do."""
    locked = [endpoint.pk for endpoint in endpoints.select_for_update().order_by("pk")]
    Endpoint.objects.filter(pk__in=locked).delete()


@transaction.atomic
def ping(*, endpoint_id: UUID) -> Message:
    """Write a test message to the endpoint; it is sent like any other.

    Raises:
        EndpointIsDisabled: nothing would be sent.
    """
    endpoint = Endpoint.objects.locked(endpoint_id)
    if not endpoint.enabled:
        raise EndpointIsDisabled(EndpointIsDisabled.__doc__)
    text = payloads.body(kind=payloads.PING, at=timezone.now(), data={})
    [message] = _write(
        [endpoint], about_id=endpoint.pk, kind=payloads.PING, event_id=uuid7(), text=text
    )
    return message


@transaction.atomic
def write_messages(*, order_id: UUID, kind: EventType, event: EventRecord, **more: Any) -> None:
    """Write a message of the event to each endpoint of the order's owner that subscribes to it.

    An endpoint that has a message of the event gets no second one: the handler may run again.
    """
    owner_id = orders.customer_id(order_id)
    endpoints = queries.endpoints_without_message(owner_id=owner_id, kind=kind, event_id=event.id)
    if not endpoints:
        return
    data = {"order": payloads.order_data(orders.summary(order_id)), **more}
    text = payloads.body(kind=kind, at=event.emitted_at, data=data)
    _write(endpoints, about_id=order_id, kind=kind, event_id=event.id, text=text)


def delete_old_messages() -> int:
    """Delete old messages with their attempts, and return the number of messages."""
    old = Message.objects.filter(created_at__lt=timezone.now() - MESSAGE_LIFE)
    deleted = 0
    while some := list(old.values_list("pk", flat=True)[:_AT_A_TIME]):
        Message.objects.filter(pk__in=some).delete()
        deleted += len(some)
    return deleted


def delete_old_secrets() -> None:
    """Delete the secrets that no longer sign."""
    old = Endpoint.objects.exclude(old_secret="").filter(old_secret_until__lt=timezone.now())
    old.update(old_secret="", old_secret_until=None)


def _request_url_check(endpoint: Endpoint) -> None:
    """Mark the URL as unchecked, and emit the event for its check. The caller saves."""
    endpoint.url_state = Endpoint.UrlState.UNCHECKED
    emit(EndpointUrlChanged(endpoint_id=endpoint.pk, owner_id=endpoint.owner_id))


def _write(
    endpoints: Sequence[Endpoint], *, about_id: UUID, kind: str, event_id: UUID, text: str
) -> list[Message]:
    """Write a message to each endpoint of one owner, and emit one event for all of them."""
    messages = Message.objects.bulk_create(
        Message(endpoint=endpoint, event_id=event_id, type=kind, body=text)
        for endpoint in endpoints
    )
    emit(
        MessagesWritten(
            about_id=about_id,
            owner_id=endpoints[0].owner_id,
            message_ids=[message.pk for message in messages],
        )
    )
    return messages
