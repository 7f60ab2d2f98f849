"""Reads of orders for other apps and the API."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.contrib.auth.models import AbstractBaseUser, AnonymousUser, User
from django.db.models import QuerySet

from orders.models import Order
from shared.money import Money

#: Digits of a user's id; a longer number fits into no id column.
_LONGEST_ID = 18


@dataclass(frozen=True, kw_only=True)
class Contact:
    """Address, name and language for messages to the customer of an order."""

    email: str
    name: str
    language: str
    reference: str


@dataclass(frozen=True, kw_only=True)
class SummaryLine:
    sku: str
    name: str
    quantity: int
    unit_price: Money
    total: Money


@dataclass(frozen=True, kw_only=True)
class OrderSummary:
    order_id: UUID
    reference: str
    status: str
    cancel_reason: str
    total: Money
    lines: list[SummaryLine]
    carrier: str
    tracking_number: str
    is_stock_reserved: bool
    is_payment_authorized: bool
    placed_at: datetime
    changed_at: datetime


def contact(order_id: UUID, *, lock: bool = False) -> Contact:
    """Return the contact of an order's customer; the address is empty if it was blanked.

    Args:
        lock: lock the order, so that it is not blanked before the transaction ends.
    """
    orders = Order.objects.select_related("customer")
    order = (orders.select_for_update(of=("self",)) if lock else orders).get(pk=order_id)
    return Contact(
        email=order.email,
        name=order.customer.get_full_name() or order.customer.get_username(),
        language=order.language,
        reference=order.reference,
    )


def customer_id(order_id: UUID) -> int:
    """Return the id of the order's customer."""
    return Order.objects.values_list("customer_id", flat=True).get(pk=order_id)


def summary(order_id: UUID) -> OrderSummary:
    order = Order.objects.prefetch_related("lines").get(pk=order_id)
    return OrderSummary(
        order_id=order.id,
        reference=order.reference,
        status=order.status,
        cancel_reason=order.cancel_reason,
        total=order.total,
        carrier=order.carrier,
        tracking_number=order.tracking_number,
        is_stock_reserved=order.stock_reserved_at is not None,
        is_payment_authorized=order.payment_authorized_at is not None,
        placed_at=order.placed_at,
        changed_at=order.changed_at,
        lines=[
            SummaryLine(
                sku=line.sku,
                name=line.name,
                quantity=line.quantity,
                unit_price=line.unit_price,
                total=line.total,
            )
            for line in order.lines.all()
        ],
    )


def orders_of(user: AbstractBaseUser | AnonymousUser) -> QuerySet[Order]:
    """Return the user's own orders, with their lines."""
    return Order.objects.filter(customer_id=user.pk).prefetch_related("lines")


def orders_seen_by(user: User | AnonymousUser) -> QuerySet[Order]:
    """Return the user's own orders, or all orders if they have the permission to view them."""
    if user.has_perm("orders.view_order"):
        return Order.objects.prefetch_related("lines")
    return orders_of(user)


def placed_since(moment: datetime) -> QuerySet[Order, UUID]:
    """Return the ids of the orders placed since then, for use in a query."""
    return Order.objects.filter(placed_at__gte=moment).order_by().values_list("pk", flat=True)


def customer_of(subject: str) -> int | None:
    """Return the id of the user in a subject such as "user:7"; None for other subjects."""
    kind, _, part = subject.partition(":")
    is_id = part.isdecimal() and len(part) <= _LONGEST_ID
    return int(part) if kind == "user" and is_id else None


def order_ids_of(subject: str) -> list[UUID]:
    """Return the ids of a customer's orders ("user:7"); empty for other subjects."""
    customer = customer_of(subject)
    if customer is None:
        return []
    return list(Order.objects.filter(customer_id=customer).values_list("pk", flat=True))


def forgotten(order_ids: Iterable[UUID]) -> set[UUID]:
    """Return those of these orders whose customer was forgotten and has no address any more."""
    found = Order.objects.filter(pk__in=list(order_ids), email="")
    return set(found.values_list("pk", flat=True))
