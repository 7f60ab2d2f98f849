"""Customers and their orders for tests."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from django.contrib.auth.models import Permission, User
from rest_framework.test import APIClient

from orders import services
from orders.models import Order


def customer(name: str = "hanako", *, email: str = "hanako@example.com", **more: Any) -> User:
    known = User.objects.filter(username=name).first()
    return known or User.objects.create_user(name, email, **more)


def clerk(name: str, *permissions: str) -> User:
    """Someone who may sign in to the admin, and has these permissions."""
    user = customer(name, is_staff=True)
    for permission in permissions:
        app, _, codename = permission.partition(".")
        user.user_permissions.add(
            Permission.objects.get(content_type__app_label=app, codename=codename)
        )
    return User.objects.get(pk=user.pk)  # a user remembers what they may


def place(
    *,
    sku: str = "TEA",
    quantity: int = 1,
    language: str = "en",
    payment_method: str = "tok_success",
) -> Order:
    return services.place_order(
        customer=customer(),
        lines=[services.WantedLine(sku=sku, quantity=quantity)],
        payment_method=payment_method,
        email="hanako@example.com",
        language=language,
    )


def signed_in(user: User) -> APIClient:
    client = APIClient()
    client.force_authenticate(user)
    return client


def a_key() -> dict[str, str]:
    """The header that a request needs which may be sent twice."""
    return {"Idempotency-Key": str(uuid4())}


def history(order: Order) -> list[tuple[str, str, str]]:
    return list(order.history.values_list("from_status", "to_status", "cause"))
