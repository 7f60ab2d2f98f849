"""Services of inventory. Only they change counters; each change adds a row to the ledger."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from uuid import UUID

from django.db import transaction
from django.db.models import F

from inventory.events import (
    MissingLine,
    StockIssued,
    StockLine,
    StockReleased,
    StockReserved,
    StockReturned,
    StockUnavailable,
)
from inventory.models import Product, Reservation, ReservationLine, Stock, StockMovement
from outbox import emit
from payments import queries as payments
from shared.money import Money

Status = Reservation.Status
Kind = StockMovement.Kind

LET_GO = {Status.REFUSED, Status.RELEASED, Status.FORESTALLED}


class CounterMismatch(Exception):
    """The counters do not match the order's reservation."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"{reason} Run `manage.py reconcile` to list the differences.")


@transaction.atomic
def add_product(
    *, sku: str, name: str, unit_price: Money, name_ja: str = "", on_sale: bool = True
) -> Product:
    """Add a product with empty stock. Change nothing if it exists.

    Raises:
        ValueError: the price is 0, and no bank authorizes an order of nothing. Or the bank of the
            settings takes no exact amounts of its currency.
    """
    if unit_price.amount < 1:
        raise ValueError(f"The price of {sku} is {unit_price}. Give at least one minor unit.")
    if not payments.takes_currency(unit_price.currency):
        raise ValueError(
            f"The price of {sku} is in {unit_price.currency}. The payment gateway does not take "
            "exact amounts of this currency. Give the price in another currency."
        )
    product, _ = Product.objects.get_or_create(
        sku=sku,
        defaults={
            "name": name,
            "name_ja": name_ja,
            "price": unit_price.amount,
            "currency": unit_price.currency,
            "on_sale": on_sale,
        },
    )
    Stock.objects.get_or_create(product=product)
    return product


@transaction.atomic
def receive_stock(*, sku: str, quantity: int, reference: str) -> bool:
    """Add units to stock, once for each reference. Return whether this call did it."""
    if quantity < 1:
        raise ValueError("The quantity of received stock must be at least 1.")
    _, received = StockMovement.objects.get_or_create(
        product_id=sku,
        kind=Kind.RECEIVED,
        reference=reference,
        defaults={"on_hand": quantity},
    )
    if received and not Stock.objects.shift(sku, on_hand=quantity):
        raise Stock.DoesNotExist(f"There is no product {sku}. Add it first.")
    return received


@transaction.atomic
def reserve_stock(*, order_id: UUID, lines: Sequence[StockLine]) -> None:
    """Reserve all lines or none. Emit `StockReserved` or `StockUnavailable`."""
    reservation = Reservation.objects.locked(order_id)
    if reservation.status != Status.ASKED:
        return  # decided before, or released before it was reserved
    wanted = _by_product(lines)
    missing = _set_aside(wanted)
    if missing:
        reservation.move_to(Status.REFUSED)
        emit(StockUnavailable(order_id=order_id, missing=missing))
        return
    ReservationLine.objects.bulk_create(
        ReservationLine(reservation=reservation, product_id=line.sku, quantity=line.quantity)
        for line in wanted
    )
    _record(Kind.RESERVED, order_id, wanted, reserved=1)
    reservation.move_to(Status.RESERVED)
    emit(StockReserved(order_id=order_id))


@transaction.atomic
def release_stock(*, order_id: UUID) -> None:
    """Release the order's stock. If there is no reservation yet, prevent a later one.

    Raises:
        Reservation.InvalidTransition: the stock was issued.
        CounterMismatch: fewer units are reserved than the reservation holds.
    """
    reservation = Reservation.objects.locked(order_id)
    if reservation.status in LET_GO:
        return
    if reservation.status == Status.ASKED:
        reservation.move_to(Status.FORESTALLED)
        return
    reservation.move_to(Status.RELEASED)
    lines = _lines_of(reservation)
    _shift_each(order_id, lines, reserved=-1)
    _record(Kind.RELEASED, order_id, lines, reserved=-1)
    emit(StockReleased(order_id=order_id, lines=lines))


@transaction.atomic
def issue_stock(*, order_id: UUID) -> None:
    """Issue the order's stock, because it was shipped. Do nothing if it is issued already.

    Raises:
        Reservation.InvalidTransition: no stock is reserved for the order.
        CounterMismatch: the counters hold fewer units than the reservation.
    """
    reservation = Reservation.objects.locked(order_id)
    if reservation.status == Status.ISSUED:
        return
    reservation.move_to(Status.ISSUED)
    lines = _lines_of(reservation)
    _shift_each(order_id, lines, on_hand=-1, reserved=-1)
    _record(Kind.ISSUED, order_id, lines, on_hand=-1, reserved=-1)
    emit(StockIssued(order_id=order_id, lines=lines))


@transaction.atomic
def return_stock(*, order_id: UUID, refund_id: UUID, lines: Sequence[StockLine]) -> None:
    """Return refunded units to stock, or release them if they are not shipped yet.

    Act once for each refund. Do nothing if the order's stock was released.

    Raises:
        CounterMismatch: more units would return than were reserved, or than the counters hold.
    """
    reservation = Reservation.objects.locked(order_id)
    returned = _by_product(lines)
    if not returned or reservation.status in LET_GO or _is_recorded(refund_id, returned[0]):
        return
    _record_returned(reservation, returned)
    if reservation.status == Status.ISSUED:
        _shift_each(order_id, returned, on_hand=1)
        _record(Kind.RETURNED, refund_id, returned, on_hand=1)
    else:
        _shift_each(order_id, returned, reserved=-1)
        _record(Kind.RELEASED, refund_id, returned, reserved=-1)
    emit(StockReturned(order_id=order_id, refund_id=refund_id, lines=returned))


def _is_recorded(cause: UUID, line: StockLine) -> bool:
    return StockMovement.objects.filter(product_id=line.sku, reference=str(cause)).exists()


def _record_returned(reservation: Reservation, lines: Iterable[StockLine]) -> None:
    for line in lines:
        noted = reservation.lines.filter(
            product_id=line.sku, returned__lte=F("quantity") - line.quantity
        ).update(returned=F("returned") + line.quantity)
        if not noted:
            units = f"{line.quantity} units of {line.sku}"
            raise CounterMismatch(f"Order {reservation.order_id} has fewer than {units} reserved.")


def _by_product(lines: Iterable[StockLine]) -> list[StockLine]:
    """Return one line for each product, sorted by SKU. All callers lock rows in this order."""
    wanted: dict[str, int] = {}
    for line in lines:
        wanted[line.sku] = wanted.get(line.sku, 0) + line.quantity
    return [StockLine(sku=sku, quantity=quantity) for sku, quantity in sorted(wanted.items())]


def _set_aside(wanted: Sequence[StockLine]) -> list[MissingLine]:
    """Reserve every line, or none if one is short. Return the lines that are short."""
    with transaction.atomic():
        short = [
            line for line in wanted if not Stock.objects.shift(line.sku, reserved=line.quantity)
        ]
        if short:
            transaction.set_rollback(True)
    return _describe(short)


def _describe(short: Sequence[StockLine]) -> list[MissingLine]:
    stock = Stock.objects.in_bulk([line.sku for line in short]) if short else {}
    return [
        MissingLine(
            sku=line.sku,
            wanted=line.quantity,
            available=stock[line.sku].available if line.sku in stock else 0,
        )
        for line in short
    ]


def _lines_of(reservation: Reservation) -> list[StockLine]:
    """Return the units that the reservation holds, without those that were returned."""
    # Not in the database's order: its collation may sort unlike Python, whose order the locks have.
    return _by_product(
        StockLine(sku=line.product_id, quantity=line.quantity - line.returned)
        for line in reservation.lines.exclude(returned=F("quantity"))
    )


def _shift_each(
    order_id: UUID, lines: Iterable[StockLine], *, on_hand: int = 0, reserved: int = 0
) -> None:
    for line in lines:
        moved = Stock.objects.shift(
            line.sku, on_hand=on_hand * line.quantity, reserved=reserved * line.quantity
        )
        if not moved:
            units = f"the {line.quantity} units of order {order_id}"
            raise CounterMismatch(f"The counters of {line.sku} hold fewer than {units}.")


def _record(
    kind: StockMovement.Kind,
    cause: UUID,
    lines: Iterable[StockLine],
    *,
    on_hand: int = 0,
    reserved: int = 0,
) -> None:
    StockMovement.objects.bulk_create(
        StockMovement(
            product_id=line.sku,
            kind=kind,
            reference=str(cause),
            on_hand=on_hand * line.quantity,
            reserved=reserved * line.quantity,
        )
        for line in lines
    )
