"""Blank what the orders of a customer have of them, once nobody needs it any more."""

from __future__ import annotations

from django.db import transaction

from orders.models import Order
from outbox import PermanentFailure

FINAL = {Order.Status.RECEIVED, Order.Status.CANCELLED}


class StillUnderWay(PermanentFailure):
    """Orders of this customer are under way and need the address: retry when they are done."""


@transaction.atomic
def forget_customer(*, subject: str) -> None:
    """Blank the address on all orders of "user:7". What was sold, when and for how much is kept:
    the books need it, for years.

    Raises:
        StillUnderWay: an order is neither received nor cancelled; nothing is blanked.
    """
    kind, _, customer = subject.partition(":")
    if kind != "user" or not customer.isdecimal():
        return
    orders = Order.objects.filter(customer_id=int(customer))
    locked = orders.select_for_update().order_by("pk")
    under_way = [order.reference for order in locked if order.status not in FINAL]
    if under_way:
        raise StillUnderWay(f"Retry when these orders are done: {', '.join(under_way)}.")
    orders.update(email="")
