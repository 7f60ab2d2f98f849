"""Invariants of orders: within the app, and compared with payments and reservations."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from itertools import islice
from typing import Any
from uuid import UUID

from django.db.models import F, OuterRef, Q, QuerySet, Subquery, Sum, Value
from django.db.models.functions import Coalesce
from django.utils.translation import gettext as _

from inventory import queries as inventory
from orders.models import Order, OrderHistory, OrderLine, RefundLine, RefundRequest
from outbox.reconciliation import (
    Difference,
    Examination,
    duplicate_event_keys,
    events_without_row,
    invariant,
    rows_without_event,
)
from payments import queries as payments
from shared.money import Money

Status = Order.Status
Reason = Order.CancelReason

AROUND = "A row was changed without its service. Compare it with the order's page, and correct it."
EVENT_OF = {
    Status.PLACED: "orders.OrderPlaced",
    Status.CONFIRMED: "orders.OrderConfirmed",
    Status.READY_TO_SHIP: "orders.OrderReadyToShip",
    Status.SHIPPED: "orders.OrderShipped",
    Status.RECEIVED: "orders.OrderReceived",
    Status.CANCELLED: "orders.OrderCancelled",
}
CANCELLED = Q(to_status=Status.CANCELLED)
EXPLAINED_BY = [
    (Q(to_status=Status.CONFIRMED), "inventory.StockReserved"),
    (Q(to_status=Status.CONFIRMED), "payments.PaymentAuthorized"),
    (Q(to_status=Status.READY_TO_SHIP), "payments.PaymentCaptured"),
    (CANCELLED & Q(order__cancel_reason=Reason.OUT_OF_STOCK), "inventory.StockUnavailable"),
    (CANCELLED & Q(order__cancel_reason=Reason.PAYMENT_DECLINED), "payments.PaymentDeclined"),
]
PAID = [Status.READY_TO_SHIP, Status.SHIPPED, Status.RECEIVED]
ON_THE_WAY = [Status.PLACED, Status.CONFIRMED]
CHUNK = 500


@invariant(remedy=AROUND)
def status_matches_history(examination: Examination) -> Iterator[Difference]:
    """An order's status is the last status in its history."""
    examination.count_rows(Order.objects.count())
    latest = OrderHistory.objects.filter(order=OuterRef("pk")).order_by("-id")
    orders: QuerySet[Any] = Order.objects.annotate(last=_first(latest)).exclude(status=F("last"))
    for order in orders.order_by("pk").iterator():
        facts = {"order": order, "status": order.status, "last": order.last or _("nothing")}
        text = _("Order %(order)s is %(status)s, but its history ends with %(last)s.")
        yield _about(order, text % facts)


@invariant(remedy=AROUND)
def history_is_continuous(examination: Examination) -> Iterator[Difference]:
    """Each status change of an order is allowed, and starts from the status before."""
    examination.count_rows(OrderHistory.objects.count())
    earlier = OrderHistory.objects.filter(order=OuterRef("order"), pk__lt=OuterRef("pk"))
    allowed = Q(pk__in=[])
    for before, after in Order.TRANSITIONS.items():
        allowed |= Q(from_status=before, to_status__in=after)
    moves = OrderHistory.objects.annotate(before=_first(earlier.order_by("-id")))
    moves = moves.exclude(allowed & Q(from_status=F("before")))
    for move in moves.select_related("order").order_by("pk").iterator():
        facts = {"order": move.order, "move": move}
        yield _about(
            move.order,
            _("Order %(order)s has a status change that is not allowed: %(move)s.") % facts,
        )


@invariant(remedy=AROUND)
def status_changes_match_events(examination: Examination) -> Iterator[Difference]:
    """Each status change of an order has exactly one event, and each event a status change."""
    moves = examination.recent(OrderHistory.objects.all(), "moved_at").select_related("order")
    examination.count_rows(moves.count())
    for status, name in EVENT_OF.items():
        to_it = moves.filter(to_status=status)
        for move in rows_without_event(to_it, name, key="order_id").order_by("pk").iterator():
            facts = {"order": move.order, "status": status, "name": name}
            text = _("Order %(order)s became %(status)s, but there is no event %(name)s.")
            yield _about(move.order, text % facts)
        yield from _events_without_move(name, OrderHistory.objects.filter(to_status=status))


@invariant(remedy=AROUND)
def status_changes_follow_answers(examination: Examination) -> Iterator[Difference]:
    """Each status change follows the events of inventory and payments that it requires."""
    moves = examination.recent(OrderHistory.objects.exclude(from_status=""), "order__placed_at")
    examination.count_rows(moves.count())
    for needing, name in EXPLAINED_BY:
        unexplained = rows_without_event(moves.filter(needing), name, key="order_id")
        for move in unexplained.select_related("order").order_by("pk").iterator():
            facts = {"order": move.order, "status": move.to_status, "name": name}
            text = _("Order %(order)s became %(status)s without an event %(name)s.")
            yield _about(move.order, text % facts)


@invariant(remedy=AROUND)
def totals_match_lines(examination: Examination) -> Iterator[Difference]:
    """An order's total is the sum of its lines, and its refunds do not exceed it."""
    examination.count_rows(Order.objects.count())
    lines = OrderLine.objects.filter(order=OuterRef("pk")).order_by().values("order")
    refunds = RefundRequest.objects.filter(order=OuterRef("pk")).order_by().values("order")
    orders: QuerySet[Any] = Order.objects.annotate(
        worth=Coalesce(
            Subquery(lines.annotate(s=Sum(F("unit_amount") * F("quantity"))).values("s")), 0
        ),
        asked=Coalesce(Subquery(refunds.annotate(s=Sum("amount")).values("s")), 0),
    )
    wrong = orders.exclude(total_amount=F("worth"), asked__lte=F("total_amount"))
    for order in wrong.order_by("pk").iterator():
        facts = {"order": order, "total": order.total.format()}
        facts["worth"] = Money(amount=order.worth, currency=order.currency).format()
        facts["asked"] = Money(amount=order.asked, currency=order.currency).format()
        text = _(
            "Order %(order)s: the total is %(total)s, but the lines sum to %(worth)s and the "
            "refunds to %(asked)s."
        )
        yield _about(order, text % facts)


@invariant(remedy=AROUND)
def refund_requests_match_events(examination: Examination) -> Iterator[Difference]:
    """Each requested refund has its event, and each event its refund."""
    name = "orders.RefundRequested"
    refunds = RefundRequest.objects.select_related("order")
    examination.count_rows(refunds.count())
    recent = examination.recent(refunds, "requested_at")
    for refund in rows_without_event(recent, name, key="order_id", refund_id="id").iterator():
        facts = {"order": refund.order, "refund": refund, "name": name}
        text = _(
            "A refund of %(refund)s for order %(order)s is stored, but there is no event %(name)s."
        )
        yield _about(refund.order, text % facts)
    for event in events_without_row(name, refunds, key="order_id", refund_id="id").iterator():
        facts = {"name": name, "key": event.key}
        text = _("There is an event %(name)s of order %(key)s, but no such refund.")
        yield Difference(text % facts, key=event.key, row=event)


@invariant(
    waits_for=("orders", "inventory", "payments"),
    remedy="Check the order's timeline: an event or a delivery is missing.",
)
def waiting_orders_have_owed_deliveries(examination: Examination) -> Iterator[Difference]:
    """An order that waits for stock or payment has an owed delivery."""
    orders = Order.objects.filter(status__in=ON_THE_WAY)
    examination.count_rows(orders.count())
    for order in orders.order_by("pk").iterator():
        facts = {"order": order, "status": order.get_status_display()}
        facts["awaits"] = order.get_awaits_display()
        text = _("Order %(order)s is %(status)s and waits for %(awaits)s, but no delivery is owed.")
        yield _about(order, text % facts)


@invariant(
    waits_for=("orders", "payments"),
    remedy="Compare the order with its payment in the admin, and with the bank's statement.",
)
def payments_match_orders(examination: Examination) -> Iterator[Difference]:
    """The captured amount minus the refunds is the amount due for the order."""
    for orders in _chunks(Order.objects.filter(status__in=[*PAID, Status.CANCELLED])):
        examination.count_rows(len(orders))
        asked = _requested_refunds(orders)
        balances = payments.balances(order.id for order in orders)
        for order in orders:
            worth = order.total_amount - asked[order.id] if order.status in PAID else 0
            balance = balances.get(order.id, payments.NOTHING)
            if balance.kept != worth or (balance.currency or order.currency) != order.currency:
                text = _("Order %(order)s requires %(worth)s, but its payment keeps %(kept)s.")
                yield _about(order, text % _sums(order, worth=worth, kept=balance.kept))
            if balance.held and order.status == Status.CANCELLED:
                text = _("Order %(order)s is cancelled, but %(held)s are still authorized for it.")
                yield _about(order, text % _sums(order, held=balance.held))


@invariant(
    waits_for=("orders", "inventory"),
    remedy="Compare the order with its reservation in the admin, and count the units.",
)
def reservations_match_orders(examination: Examination) -> Iterator[Difference]:
    """Stock is reserved for an order to ship, issued for a shipped one, else released."""
    for orders in _chunks(Order.objects.filter(status__in=[*PAID, Status.CANCELLED])):
        examination.count_rows(len(orders))
        lines = _lines(orders)
        reservations = inventory.reservations(order.id for order in orders)
        for order in orders:
            found = reservations.get(order.id)
            if not found or found.state != _stock_state(order):
                facts = {"order": order, "status": order.get_status_display()}
                facts["state"] = found.state.label if found else _("without a reservation")
                text = _("Order %(order)s is %(status)s, but its stock is: %(state)s.")
                yield _about(order, text % facts)
            elif order.status in PAID and found.units != lines[order.id]:
                text = _("Order %(order)s and its reservation do not have the same lines.")
                yield _about(order, text % {"order": order})


def _about(order: Order, text: str) -> Difference:
    return Difference(text, key=str(order.id), row=order)


def _first(moves: QuerySet[OrderHistory]) -> Coalesce:
    return Coalesce(Subquery(moves.values("to_status")[:1]), Value(""))


def _events_without_move(name: str, moves: QuerySet[OrderHistory]) -> Iterator[Difference]:
    for event in events_without_row(name, moves, key="order_id").iterator():
        facts = {"name": name, "key": event.key}
        text = _("There is an event %(name)s of order %(key)s, but no such status change.")
        yield Difference(text % facts, key=event.key, row=event)
    for key in duplicate_event_keys(name).iterator():
        text = _("There are several events %(name)s of order %(key)s.")
        yield Difference(text % {"name": name, "key": key}, key=key)


def _chunks(orders: QuerySet[Order]) -> Iterator[list[Order]]:
    rows = orders.order_by("pk").iterator(chunk_size=CHUNK)
    while chunk := list(islice(rows, CHUNK)):
        yield chunk


def _requested_refunds(orders: list[Order]) -> dict[UUID, int]:
    refunds = RefundRequest.objects.filter(order__in=orders).order_by().values("order")
    return defaultdict(int, refunds.annotate(sum=Sum("amount")).values_list("order", "sum"))


def _lines(orders: list[Order]) -> dict[UUID, dict[str, tuple[int, int]]]:
    """Return each order's units by SKU: how many were sold, and how many of those returned."""
    returned = RefundLine.objects.filter(line=OuterRef("pk"), refund__return_stock=True)
    back = returned.order_by().values("line").annotate(sum=Sum("quantity")).values("sum")
    lines = OrderLine.objects.filter(order__in=orders).annotate(back=Coalesce(Subquery(back), 0))
    found: dict[UUID, dict[str, tuple[int, int]]] = defaultdict(dict)
    for order, sku, quantity, units_back in lines.values_list("order", "sku", "quantity", "back"):
        found[order][sku] = (quantity, units_back)
    return found


def _stock_state(order: Order) -> inventory.StockState:
    if order.status == Status.CANCELLED:
        return inventory.StockState.RELEASED
    is_here = order.status == Status.READY_TO_SHIP
    return inventory.StockState.RESERVED if is_here else inventory.StockState.ISSUED


def _sums(order: Order, **amounts: int) -> dict[str, Any]:
    sums = {name: Money(amount=n, currency=order.currency).format() for name, n in amounts.items()}
    return {"order": order, **sums}
