"""Forget a customer: find the texts and events about them, and blank their data on orders.

A subject is a text such as "user:7". `handlers.py` calls these functions.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from datetime import timedelta
from uuid import UUID

from django.contrib.auth.models import User
from django.db import transaction
from django.urls import reverse
from django.utils import timezone

from api import erase_answers_at, erase_answers_of
from orders import queries
from orders.events import CustomerForgotten, ErasurePostponed
from orders.models import Order
from outbox import emit

logger = logging.getLogger(__name__)

FINAL = {Order.Status.RECEIVED, Order.Status.CANCELLED}

#: An order under way takes days, and its address is needed until it is final.
TRIED_AGAIN_AFTER = timedelta(hours=6)
#: Order ids in one log line.
_MOST_NAMED = 10
#: Views for customers and staff whose stored answers have the address.
_WITH_ADDRESS = ("orders:cancellation", "orders:shipping")


@transaction.atomic
def forget_customer(*, subject: str) -> None:
    """Blank the address on all orders of a customer, and emit `CustomerForgotten`.

    The products, time and amount of a sale are kept: bookkeeping needs them for years. If an
    order is not final, nothing is blanked, and a delayed `ErasurePostponed` tries again.
    """
    customer = queries.customer_of(subject)
    if customer is None:
        return
    orders = Order.objects.filter(customer_id=customer)
    locked = list(orders.select_for_update().order_by("pk"))
    under_way = [order.id for order in locked if order.status not in FINAL]
    if under_way:
        emit(ErasurePostponed(subject=subject, order_ids=under_way), delay=TRIED_AGAIN_AFTER)
        _log_wait(subject, under_way)
        return
    # By id: an order that was placed after the lock is under way.
    orders.filter(pk__in=[order.pk for order in locked]).update(email="")
    emit(CustomerForgotten(subject=subject))


def _log_wait(subject: str, order_ids: Sequence[UUID]) -> None:
    more = len(order_ids) - _MOST_NAMED
    logger.warning(
        "The erasure of %s waits until these orders are received or cancelled: %s%s. The next try "
        "is at %s UTC, and then every %g hours. `manage.py outbox why %s` shows the next try. If "
        "an order stays open, finish or cancel it in the admin.",
        subject,
        ", ".join(map(str, order_ids[:_MOST_NAMED])),
        f" and {more} more" if more > 0 else "",
        f"{timezone.now() + TRIED_AGAIN_AFTER:%Y-%m-%d %H:%M:%S}",
        TRIED_AGAIN_AFTER / timedelta(hours=1),
        subject,
    )


def erase_answers(*, subject: str) -> None:
    """Erase the API's stored answers to a customer, and those to staff with the address."""
    customer = queries.customer_of(subject)
    if customer is None:
        return
    erase_answers_of(customer)
    orders = queries.order_ids_of(subject)
    erase_answers_at([reverse(view, args=[order]) for order in orders for view in _WITH_ADDRESS])


def personal_values(user_id: str) -> Iterator[str]:
    """Yield the texts that identify a customer: addresses, and the full name."""
    customer = queries.customer_of(f"user:{user_id}")
    if customer is None:
        return
    orders = Order.objects.filter(customer_id=customer).exclude(email="")
    yield from orders.order_by().values_list("email", flat=True).distinct()
    user = User.objects.filter(pk=customer).first()
    if user:
        yield user.email
        # Parts of a name are not masked: "May" is also an ordinary word.
        yield user.get_full_name() if user.first_name and user.last_name else ""
        yield user.username if "@" in user.username else ""


def order_keys(user_id: str) -> Iterator[str]:
    """Yield the keys of a customer's events: the ids of their orders."""
    yield from map(str, queries.order_ids_of(f"user:{user_id}"))


def customer_of_key(key: str) -> str | None:
    """Return the id of the customer if an event's key is the id of an order."""
    try:
        order_id = UUID(key)
    except ValueError:
        return None
    found = Order.objects.filter(pk=order_id).values_list("customer_id", flat=True).first()
    return None if found is None else str(found)
