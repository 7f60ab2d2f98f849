"""Services of orders. Each move locks the order first, then reads, decides and emits."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from uuid import UUID

from django.contrib.auth.models import User
from django.db import transaction
from django.utils import timezone

from inventory import queries as inventory
from orders.deadlines import is_our_own_delay
from orders.erasure import customer_of_key as customer_of_key
from orders.erasure import erase_answers as erase_answers
from orders.erasure import forget_customer as forget_customer
from orders.erasure import order_keys as order_keys
from orders.erasure import personal_values as personal_values
from orders.events import (
    OrderCancelled,
    OrderConfirmed,
    OrderedLine,
    OrderPlaced,
    OrderReadyToShip,
    OrderReceived,
    OrderShipped,
)
from orders.models import Order, OrderLine
from orders.refunds import NothingToRefund as NothingToRefund
from orders.refunds import NothingToShip as NothingToShip
from orders.refunds import NotRefundable as NotRefundable
from orders.refunds import RefundTooLarge as RefundTooLarge
from orders.refunds import RequestedBefore as RequestedBefore
from orders.refunds import WantedLine as WantedLine
from orders.refunds import has_units_to_ship
from orders.refunds import request_refund as request_refund
from outbox import acting_as, emit
from shared.money import Money, add_up

Status = Order.Status
CancelReason = Order.CancelReason

MOST_IN_ONE_SWEEP = 1000


class PlacedBefore(Exception):
    """The customer has placed an order with this idempotency key."""


class NotForSale(Exception):
    """Some SKUs are unknown, or not on sale now. `skus` lists them."""

    def __init__(self, skus: Iterable[str]) -> None:
        self.skus = sorted(skus)
        super().__init__(f"Not for sale: {', '.join(self.skus)}.")


class TotalTooLarge(Exception):
    """The total of an order exceeds what the database can hold."""


class TotalChanged(Exception):
    """The total of an order differs from the one that the customer has seen."""

    def __init__(self, *, total: Money, expected: Money) -> None:
        self.total, self.expected = total, expected
        super().__init__(f"The total is {total.format()}. Expected: {expected.format()}.")


# The largest bigint, in minor units.
LARGEST_TOTAL = 2**63 - 1


@transaction.atomic
def place_order(
    *,
    customer: User,
    lines: Sequence[WantedLine],
    payment_method: str,
    email: str,
    language: str,
    key_digest: str | None = None,
    expected_total: Money | None = None,
) -> Order:
    """Store an order at the current prices and emit `OrderPlaced`, for stock and payment.

    Args:
        key_digest: of the idempotency key of the request. A key places one order for good.
        expected_total: the total that the customer has seen. It is only compared.

    Raises:
        PlacedBefore: the customer has placed an order with the key.
        NotForSale: a SKU is unknown, or not on sale now.
        TotalTooLarge: the total exceeds what the database can hold.
        TotalChanged: the total differs from the expected one, in amount or currency.
        CurrencyMismatch: the products have prices in several currencies.
    """
    if key_digest and customer.orders.filter(placed_with=key_digest).exists():
        raise PlacedBefore(PlacedBefore.__doc__)
    prices = inventory.price_list((line.sku for line in lines), language=language)
    unknown = {line.sku for line in lines} - prices.keys()
    if unknown:
        raise NotForSale(unknown)
    sold = [_at_price(prices[line.sku], line.quantity) for line in lines]
    total = add_up(line.total for line in sold)
    if total.amount > LARGEST_TOTAL:
        raise TotalTooLarge(f"The total {total.amount} exceeds {LARGEST_TOTAL}.")
    if expected_total is not None and total != expected_total:
        raise TotalChanged(total=total, expected=expected_total)
    order = Order(
        customer=customer,
        email=email,
        language=language,
        total_amount=total.amount,
        currency=total.currency,
        placed_with=key_digest,
    )
    order.move_to(Status.PLACED, cause="orders.place_order")
    for line in sold:
        line.order = order
    OrderLine.objects.bulk_create(sold)
    emit(
        OrderPlaced(
            order_id=order.id,
            lines=[OrderedLine(sku=line.sku, quantity=line.quantity) for line in lines],
            total=total,
            payment_method=payment_method,
        )
    )
    return order


@transaction.atomic
def record_stock_reserved(*, order_id: UUID) -> None:
    """Record that the stock is reserved. Confirm the order if its payment is authorized too."""
    order = Order.objects.locked(order_id)
    if order.status != Status.PLACED or order.stock_reserved_at:
        return  # recorded before, or cancelled: OrderCancelled makes inventory release it
    order.stock_reserved_at = timezone.now()
    _confirm_if_complete(order, cause="inventory.StockReserved")


@transaction.atomic
def record_payment_authorized(*, order_id: UUID) -> None:
    """Record that the payment is authorized. Confirm the order if its stock is reserved too."""
    order = Order.objects.locked(order_id)
    if order.status != Status.PLACED or order.payment_authorized_at:
        return  # recorded before, or cancelled: OrderCancelled makes payments void it
    order.payment_authorized_at = timezone.now()
    _confirm_if_complete(order, cause="payments.PaymentAuthorized")


@transaction.atomic
def release_for_shipping(*, order_id: UUID) -> None:
    """Record that the payment is captured. The order may be packed, unless it was cancelled."""
    order = Order.objects.locked(order_id)
    # For an order in PLACED no capture was requested. InvalidTransition makes a person investigate.
    if order.status not in {Status.PLACED, Status.CONFIRMED}:
        return
    order.move_to(Status.READY_TO_SHIP, cause="payments.PaymentCaptured")
    emit(OrderReadyToShip(order_id=order_id))


@transaction.atomic
def cancel_for_lack_of_stock(*, order_id: UUID) -> None:
    _cancel(order_id, CancelReason.OUT_OF_STOCK, cause="inventory.StockUnavailable")


@transaction.atomic
def cancel_for_declined_payment(*, order_id: UUID) -> None:
    _cancel(order_id, CancelReason.PAYMENT_DECLINED, cause="payments.PaymentDeclined")


class NotCancellable(Exception):
    """The order is with the carrier already, so it cannot be cancelled."""


@transaction.atomic
def cancel_order(*, order_id: UUID, by: str) -> Order:
    """Cancel the order on request. A repetition changes nothing.

    Args:
        order_id: the order.
        by: id of the user who cancels, as "user:7". The history keeps it, and erasure does not
            reach it.

    Raises:
        NotCancellable: the order is shipped.
    """
    order = Order.objects.locked(order_id)
    if order.status in {Status.SHIPPED, Status.RECEIVED}:
        raise NotCancellable(NotCancellable.__doc__)
    _cancel_locked(order, CancelReason.REQUESTED, cause=f"orders.cancel_order by {by}")
    return order


def cancel_overdue() -> int:
    """Cancel the orders whose deadline has passed, unless the delay is ours. Return how many."""
    overdue = Order.objects.filter(deadline_at__lte=timezone.now()).order_by("deadline_at")
    order_ids = overdue.values_list("pk", flat=True)[:MOST_IN_ONE_SWEEP]
    return sum(_cancel_if_overdue(order_id) for order_id in order_ids)


@transaction.atomic
def ship_order(*, order_id: UUID, carrier: str, tracking_number: str, by: str) -> Order:
    """Mark the order as shipped. Once shipped, a repetition changes nothing.

    Raises:
        NothingToShip: all its units went back to stock.
        Order.InvalidTransition: it is not ready to ship.
    """
    order = Order.objects.locked(order_id)
    if order.status in {Status.SHIPPED, Status.RECEIVED}:
        return order
    if order.status == Status.READY_TO_SHIP and not has_units_to_ship(order):
        raise NothingToShip(NothingToShip.__doc__)
    order.carrier, order.tracking_number = carrier, tracking_number
    order.move_to(Status.SHIPPED, cause=f"orders.ship_order by {by}")
    emit(OrderShipped(order_id=order_id, carrier=carrier, tracking_number=tracking_number))
    return order


@transaction.atomic
def receive_order(*, order_id: UUID, by: str) -> None:
    """Mark the order as received. Once received, a repetition changes nothing.

    Raises:
        Order.InvalidTransition: it is not shipped.
    """
    order = Order.objects.locked(order_id)
    if order.status == Status.RECEIVED:
        return
    order.move_to(Status.RECEIVED, cause=f"orders.receive_order by {by}")
    emit(OrderReceived(order_id=order_id))


def _at_price(product: inventory.PricedProduct, quantity: int) -> OrderLine:
    return OrderLine(
        sku=product.sku,
        name=product.name,
        unit_amount=product.unit_price.amount,
        currency=product.unit_price.currency,
        quantity=quantity,
    )


def _confirm_if_complete(order: Order, *, cause: str) -> None:
    """Confirm the order if it is complete. The lock ensures that the later caller sees both."""
    if not order.is_complete:
        order.save_with_deadline()
        return
    order.move_to(Status.CONFIRMED, cause=cause)
    emit(OrderConfirmed(order_id=order.id))


def _cancel(order_id: UUID, reason: CancelReason, *, cause: str) -> None:
    _cancel_locked(Order.objects.locked(order_id), reason, cause=cause)


def _cancel_locked(order: Order, reason: CancelReason, *, cause: str) -> None:
    if order.status == Status.CANCELLED:
        return  # an earlier cancellation emitted the event
    order.cancel_reason = reason
    order.move_to(Status.CANCELLED, cause=cause)
    emit(OrderCancelled(order_id=order.id, reason=reason))


def _cancel_if_overdue(order_id: UUID) -> bool:
    """Check again under the lock: the order may have moved since the query."""
    with acting_as("job:orders.cancel_overdue"), transaction.atomic():
        order = Order.objects.locked(order_id)
        if not order.is_overdue:
            return False
        if is_our_own_delay(order_id):
            order.restart_deadline()
            order.save(update_fields=["deadline_at"])  # the order itself has not changed
            return False
        cause = f"orders.cancel_overdue, no {order.awaits}"
        _cancel_locked(order, CancelReason.OVERDUE, cause=cause)
        return True
