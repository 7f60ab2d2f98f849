"""Refunds of an order: how much is left, and the request. Part of the services."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from django.db import transaction
from django.db.models import Sum

from orders.events import OrderedLine, RefundRequested
from orders.models import Order, OrderLine, RefundLine, RefundRequest
from outbox import emit
from shared.money import Money, add_up

Status = Order.Status
PAID = {Status.READY_TO_SHIP, Status.SHIPPED, Status.RECEIVED}


@dataclass(frozen=True, kw_only=True)
class WantedLine:
    sku: str
    quantity: int


class NotRefundable(Exception):
    """The order is not paid, or its money is on its way back already."""


class RefundTooLarge(NotRefundable):
    """The refund exceeds the amount or the units that are left."""


class RequestedBefore(Exception):
    """The user has requested a refund of the order with this idempotency key."""


class NothingToShip(Order.InvalidTransition):
    """All units of the order went back to stock. It can be cancelled."""


class NothingToRefund(NotRefundable):
    """Nothing is left, a line is not of the order, or units shall return and none are named."""


@transaction.atomic
def request_refund(
    *,
    order_id: UUID,
    lines: Sequence[WantedLine] = (),
    amount: Money | None = None,
    return_stock: bool,
    by: str,
    key_digest: str | None = None,
) -> RefundRequest:
    """Request a refund of some lines, of an amount, or, without either, of all that is left.

    Args:
        lines: the refunded lines. Without an amount their price is refunded.
        amount: the amount to refund; it may differ from the price of the lines.
        return_stock: the goods of these lines go back on the shelf.
        by: id of the user, as "user:7".
        key_digest: of the idempotency key of the request. A key requests one refund for good.

    Raises:
        RequestedBefore: the user has requested a refund of the order with the key.
        NotRefundable: the order is not paid, or is cancelled.
        RefundTooLarge: earlier refunds leave less, in money or in units.
        NothingToRefund: the amount is 0, or a line has no units, or no goods are to return.
    """
    order = Order.objects.locked(order_id)
    if key_digest and order.refunds.filter(requested_by=by, requested_with=key_digest).exists():
        raise RequestedBefore(RequestedBefore.__doc__)
    if order.status not in PAID:
        raise NotRefundable(NotRefundable.__doc__)
    units = _units(order, lines, everything=amount is None and not lines)
    worth = amount or (_price(units) if lines else left_to_refund(order))
    _require_refundable(order, worth, goods_are_missing=return_stock and not units)
    refund = order.refunds.create(
        amount=worth.amount,
        return_stock=return_stock,
        requested_by=by,
        requested_with=key_digest,
    )
    RefundLine.objects.bulk_create(
        RefundLine(refund=refund, line=line, quantity=quantity) for line, quantity in units.items()
    )
    returned = units if return_stock else {}
    emit(
        RefundRequested(
            order_id=order_id,
            refund_id=refund.id,
            amount=worth,
            returned=[
                OrderedLine(sku=line.sku, quantity=quantity) for line, quantity in returned.items()
            ],
        )
    )
    return refund


def left_to_refund(order: Order) -> Money:
    """Return the amount that was paid and not requested back yet."""
    asked = order.refunds.aggregate(sum=Sum("amount"))["sum"] or 0
    return order.total - Money(amount=asked, currency=order.currency)


def has_units_to_ship(order: Order) -> bool:
    """Return whether refunds have left units that do not go back to stock."""
    sold = order.lines.aggregate(sum=Sum("quantity"))["sum"] or 0
    back = RefundLine.objects.filter(refund__order=order, refund__return_stock=True)
    return sold > (back.aggregate(sum=Sum("quantity"))["sum"] or 0)


def _require_refundable(order: Order, worth: Money, *, goods_are_missing: bool) -> None:
    if worth > left_to_refund(order):
        raise RefundTooLarge(RefundTooLarge.__doc__)
    if worth.amount < 1 or goods_are_missing:
        raise NothingToRefund(NothingToRefund.__doc__)


def _units(order: Order, lines: Sequence[WantedLine], *, everything: bool) -> dict[OrderLine, int]:
    """Return the order's lines to refund, each with its number of units."""
    # Grouped rows have no order by default, whatever the model's Meta sets.
    rows = order.lines.annotate(refunded=Sum("refunds__quantity")).order_by("id")
    left: dict[OrderLine, int] = {line: line.quantity - (line.refunded or 0) for line in rows}
    if everything:
        return {line: quantity for line, quantity in left.items() if quantity}
    return _chosen(left, lines)


def _chosen(left: Mapping[OrderLine, int], lines: Sequence[WantedLine]) -> dict[OrderLine, int]:
    by_sku = {line.sku: line for line in left}
    wanted: dict[OrderLine, int] = {}
    for one in lines:
        line = by_sku.get(one.sku)
        if line is None or one.quantity < 1:
            raise NothingToRefund(NothingToRefund.__doc__)
        wanted[line] = wanted.get(line, 0) + one.quantity
        if wanted[line] > left[line]:
            raise RefundTooLarge(RefundTooLarge.__doc__)
    return wanted


def _price(units: Mapping[OrderLine, int]) -> Money:
    return add_up(line.unit_price * quantity for line, quantity in units.items())
