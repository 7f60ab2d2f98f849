"""Events of packed parcels and two handlers, for the tests of the monitor's pages."""

from __future__ import annotations

import re
from html import unescape
from uuid import UUID, uuid4

from django.contrib.auth.models import Permission, User
from django.test import Client
from django.urls import reverse

from outbox import DomainEvent, PermanentFailure, emit, subscribe
from outbox.models import Delivery, Event, Operation, Subscription
from outbox.testing import Outbox

EVENTS = reverse("admin:outbox_event_changelist")
DELIVERIES = reverse("admin:outbox_delivery_changelist")
SUBSCRIPTIONS = reverse("admin:outbox_subscription_changelist")
TIMELINE = reverse("admin:outbox_event_timeline")
HOSTILE = "<script>alert(1)</script>"


class Packed(DomainEvent, key="parcel_id"):
    """A parcel is packed."""

    parcel_id: UUID
    note: str = ""


class Labelled(DomainEvent, key="parcel_id"):
    """A parcel has its label."""

    parcel_id: UUID


def subscribe_to_parcels() -> Outbox:
    """Subscribe two handlers to tests.Packed: one emits tests.Labelled, one fails for good."""

    @subscribe("tests.Packed")
    def label_parcel(parcel_id: UUID) -> None:
        emit(Labelled(parcel_id=parcel_id))

    @subscribe("tests.Packed")
    def weigh_parcel(note: str) -> None:
        raise PermanentFailure(f"The scales are broken {note}")

    return Outbox()


def packed(outbox: Outbox, *, parcel_id: UUID | None = None, note: str = "") -> Event:
    """Return an event of a packed parcel, after one attempt of each delivery."""
    event = outbox.given("tests.Packed", parcel_id=parcel_id or uuid4(), note=note)
    outbox.deliver_all(raise_errors=False)
    return event


def dead_one() -> Delivery:
    return Delivery.objects.get(state="dead")


def page_of(row: Event | Delivery | Operation | Subscription) -> str:
    return reverse(f"admin:outbox_{row._meta.model_name}_change", args=[row.pk])


def client_with(*permissions: str) -> Client:
    user = User.objects.create_user(f"with-{len(permissions)}", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    client = Client()
    client.force_login(user)
    return client


def links_of(client: Client, url: str) -> dict[str, int]:
    """Return the status of each page of the admin that a page links to."""
    base = reverse("admin:index")
    found = [unescape(one) for one in re.findall(r'href="([^"#]+)"', text_of(client, url))]
    return {one: client.get(one).status_code for one in found if one.startswith(base)}


def text_of(client: Client, url: str) -> str:
    response = client.get(url)
    assert response.status_code == 200
    return response.content.decode()


def listed(client: Client, url: str) -> list[int]:
    """Return the primary keys of the rows of a list, in its order."""
    return [row.pk for row in client.get(url).context["cl"].result_list]
