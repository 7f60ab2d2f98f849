"""Reads of webhooks for the API."""

from __future__ import annotations

from uuid import UUID

from django.contrib.auth.models import AbstractBaseUser, AnonymousUser
from django.db.models import QuerySet
from django.shortcuts import get_object_or_404

from webhooks.models import Attempt, Endpoint, EventType


def endpoints_of(user: AbstractBaseUser | AnonymousUser) -> QuerySet[Endpoint]:
    return Endpoint.objects.filter(owner_id=user.pk)


def attempts_at(user: AbstractBaseUser | AnonymousUser, endpoint_id: UUID) -> QuerySet[Attempt]:
    """Return the log of one of the user's endpoints; raise Http404 if it is not theirs."""
    endpoint = get_object_or_404(endpoints_of(user), pk=endpoint_id)
    return endpoint.attempts.select_related("message")


def endpoints_without_message(*, owner_id: int, kind: EventType, event_id: UUID) -> list[Endpoint]:
    """Return the owner's enabled endpoints for a type that have no message of the event yet.

    An inactive owner has none.
    """
    endpoints = Endpoint.objects.filter(owner_id=owner_id, owner__is_active=True, disabled_at=None)
    endpoints = endpoints.exclude(messages__event_id=event_id)
    # An owner has few endpoints, and SQLite cannot query a list in JSON.
    return [endpoint for endpoint in endpoints if endpoint.receives(kind)]
