"""Reads of orders for other apps and the API."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.contrib.auth.models import AbstractBaseUser, AnonymousUser, User
from django.db.models import Q, QuerySet, TextChoices, Value, prefetch_related_objects
from django.db.models.functions import Upper
from django.utils.translation import gettext_lazy as _

from orders.models import Order, RefundRequest
from payments import queries as payments
from shared.money import Money, add_up

#: An order in one of these has no refund yet, so its refunds are not read.
_NEVER_REFUNDED = {Order.Status.PLACED, Order.Status.CONFIRMED}

#: Letters and digits of a reference, without its hyphens.
_LETTERS = 12
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
    is_cancelled_by_customer: bool
    total: Money
    lines: list[SummaryLine]
    carrier: str
    tracking_number: str
    is_stock_reserved: bool
    is_payment_authorized: bool
    placed_at: datetime
    changed_at: datetime


class RefundStatus(TextChoices):
    """The state of all refunds of an order; that of its money, if it was cancelled."""

    NONE = "none", _("not refunded")
    REQUESTED = "requested", _("refund requested")
    PARTLY_REFUNDED = "partly_refunded", _("partly refunded")
    FULLY_REFUNDED = "fully_refunded", _("fully refunded")


@dataclass(frozen=True, kw_only=True)
class Refunded:
    """The money of an order that the bank has refunded.

    Attributes:
        status: `requested` while the bank has not confirmed each refund.
        amount: the sum of the refunds that the bank has confirmed.
        done: ids of these refunds.
        requested: the refunds that staff requested, the oldest first.
    """

    status: RefundStatus
    amount: Money
    done: frozenset[UUID]
    requested: Sequence[RefundRequest]


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


def is_cancelled_by_customer(order_id: UUID) -> bool:
    """Return whether the customer, and not staff or a handler, has cancelled the order."""
    return Order.objects.get(pk=order_id).is_cancelled_by_customer


def summary(order_id: UUID) -> OrderSummary:
    order = Order.objects.prefetch_related("lines").get(pk=order_id)
    return OrderSummary(
        order_id=order.id,
        reference=order.reference,
        status=order.status,
        cancel_reason=order.cancel_reason,
        is_cancelled_by_customer=order.is_cancelled_by_customer,
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


def newest_of(
    user: AbstractBaseUser | AnonymousUser, *, before: UUID | None, most: int
) -> list[Order]:
    """Return the user's own orders without their lines, the newest first, in one query.

    Args:
        before: the id of the order after which the list goes on; None: from the newest one.
        most: maximum orders.
    """
    orders = Order.objects.filter(customer_id=user.pk).order_by("-id")
    return list((orders.filter(pk__lt=before) if before else orders)[:most])


def orders_seen_by(user: User | AnonymousUser) -> QuerySet[Order]:
    """Return the user's own orders, or all orders if they have the permission to view them."""
    if user.has_perm("orders.view_order"):
        return Order.objects.prefetch_related("lines")
    return orders_of(user)


def find_orders(term: str) -> QuerySet[Order]:
    """Return the orders with this id, reference or e-mail address, the latest first.

    It serves the search of the admin and `outbox why` (`OUTBOX["LOOKUPS"]`). A reference may be in
    lower case, with or without hyphens, and an address in any case.
    """
    if "@" in term:
        orders = Order.objects.alias(address=Upper("email"))
        return orders.filter(address=Upper(Value(term)))
    letters = term.replace("-", "").upper()
    condition = Q(pk__in=())
    if len(letters) == _LETTERS:
        condition |= Q(reference="-".join(letters[at : at + 4] for at in (0, 4, 8)))
    with suppress(ValueError):  # the term may be no UUID
        condition |= Q(pk=UUID(term))
    return Order.objects.filter(condition)


def refunded(orders: Iterable[Order]) -> dict[UUID, Refunded]:
    """Return the refunds of these orders, by order.

    They take four queries, one more if an order is cancelled, and none if none is paid.
    """
    orders = list(orders)
    paid = [order for order in orders if order.status not in _NEVER_REFUNDED]
    prefetch_related_objects(paid, "refunds__lines__line")
    known = payments.refunds_of(order.pk for order in paid) if paid else {}
    cancelled = [order.pk for order in paid if order.status == Order.Status.CANCELLED]
    balances = payments.balances(cancelled) if cancelled else {}
    owed = {order_id for order_id, balance in balances.items() if balance.kept}
    return {
        order.pk: _refunded(order, known.get(order.pk, []), is_owed=order.pk in owed)
        for order in orders
    }


def _refunded(order: Order, known: list[payments.RefundSummary], *, is_owed: bool) -> Refunded:
    """Return the refunds of an order.

    Args:
        known: the refunds in payments.
        is_owed: money of the cancelled order is kept. Payments may not have requested its refund.
    """
    done = {refund.refund_id: refund.amount for refund in known if refund.is_done}
    amount = add_up([order.total * 0, *done.values()])
    may_have = order.status not in _NEVER_REFUNDED
    requested = list(order.refunds.all()) if may_have else []
    covered = set(done)
    if done and amount >= order.total:
        # The refund of a cancellation covers requests that payments processed after it.
        covered |= {one.pk for one in requested}
    if is_owed or {one.pk for one in requested} | {one.refund_id for one in known} != covered:
        status = RefundStatus.REQUESTED
    elif not covered:
        status = RefundStatus.NONE
    else:
        is_all = amount >= order.total
        status = RefundStatus.FULLY_REFUNDED if is_all else RefundStatus.PARTLY_REFUNDED
    return Refunded(status=status, amount=amount, done=frozenset(covered), requested=requested)


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
