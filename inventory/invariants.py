"""Invariants of the stock: counters, ledger, reservations and emitted events agree."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

from django.db.models import F, OuterRef, Q, QuerySet, Subquery, Sum
from django.db.models.functions import Coalesce
from django.utils.translation import gettext as _

from inventory.models import Product, Reservation, ReservationLine, Stock, StockMovement
from outbox.reconciliation import (
    Difference,
    Examination,
    duplicate_event_keys,
    events_without_row,
    invariant,
    rows_without_event,
)

Status = Reservation.Status
Kind = StockMovement.Kind

COUNT = "Count the units, compare with the stock movements, and add a movement that corrects them."
AROUND = (
    "A row was changed without its service. Compare it with the order's timeline, and correct it."
)
CHUNK = 500
EXPLAINS = {
    "inventory.StockReserved": [Status.RESERVED, Status.RELEASED, Status.ISSUED],
    "inventory.StockUnavailable": [Status.REFUSED],
    "inventory.StockReleased": [Status.RELEASED],
    "inventory.StockIssued": [Status.ISSUED],
}


@invariant(remedy=COUNT)
def stock_counters_match_ledger(examination: Examination) -> Iterator[Difference]:
    """A product's counters are the sums of its stock movements."""
    examination.count_rows(Product.objects.count())
    products: QuerySet[Any] = Product.objects.annotate(
        hand=Coalesce(F("stock__on_hand"), 0),
        aside=Coalesce(F("stock__reserved"), 0),
        hand_moved=_moved("on_hand"),
        aside_moved=_moved("reserved"),
    )
    for one in products.exclude(hand=F("hand_moved"), aside=F("aside_moved")).iterator():
        facts = {"sku": one.sku, "hand": one.hand, "aside": one.aside}
        facts |= {"hand_moved": one.hand_moved, "aside_moved": one.aside_moved}
        text = _(
            "%(sku)s has %(hand)d on hand and %(aside)d reserved. Its movements sum to "
            "%(hand_moved)d and %(aside_moved)d."
        )
        yield Difference(text % facts, key=one.sku, row=one)


@invariant(remedy=COUNT)
def stock_is_not_negative(examination: Examination) -> Iterator[Difference]:
    """Units on hand and reserved units are at least 0, and no more are reserved than on hand."""
    examination.count_rows(Stock.objects.count())
    wrong = Stock.objects.filter(
        Q(on_hand__lt=0) | Q(reserved__lt=0) | Q(reserved__gt=F("on_hand"))
    )
    for stock in wrong.order_by("pk").iterator():
        facts = {"sku": stock.pk, "hand": stock.on_hand, "aside": stock.reserved}
        text = _("%(sku)s has %(hand)d on hand and %(aside)d reserved.")
        yield Difference(text % facts, key=stock.pk, row=stock.product)


@invariant(remedy=COUNT)
def reserved_stock_matches_reservations(examination: Examination) -> Iterator[Difference]:
    """A product's reserved units are the sum of its active reservations."""
    examination.count_rows(Stock.objects.count())
    lines = ReservationLine.objects.filter(product=OuterRef("pk"))
    held = lines.filter(reservation__status=Status.RESERVED).order_by().values("product")
    sums = held.annotate(sum=Sum(F("quantity") - F("returned"))).values("sum")
    stock: QuerySet[Any] = Stock.objects.annotate(held=Coalesce(Subquery(sums), 0))
    for one in stock.exclude(reserved=F("held")).select_related("product").iterator():
        facts = {"sku": one.pk, "aside": one.reserved, "held": one.held}
        text = _("%(sku)s has %(aside)d reserved, but its reservations hold %(held)d.")
        yield Difference(text % facts, key=one.pk, row=one.product)


@invariant(remedy=AROUND)
def reservations_match_ledger(examination: Examination) -> Iterator[Difference]:
    """Each line of a reservation has its stock movements: reserved, then released or issued."""
    lines = ReservationLine.objects.select_related("reservation").order_by("pk")
    rows = lines.iterator(chunk_size=CHUNK)
    while chunk := list(islice(rows, CHUNK)):
        examination.count_rows(len(chunk))
        ledger = _ledger(chunk)
        for line in chunk:
            for kind in _kinds_missing(line, ledger):
                facts = {"line": line, "order": line.reservation_id, "kind": kind.label}
                text = _("%(line)s for order %(order)s has no movement of the kind %(kind)s.")
                yield _about(line.reservation, text % facts)


@invariant(remedy=AROUND)
def reservations_match_events(examination: Examination) -> Iterator[Difference]:
    """Each reservation has exactly one event for its status, and each event a reservation."""
    recent = examination.recent(Reservation.objects.all(), "asked_at")
    examination.count_rows(recent.count())
    for unanswered in recent.filter(status=Status.ASKED).iterator():
        text = _("Order %(order)s requested stock, but the request was not decided.")
        yield _about(unanswered, text % {"order": unanswered.order_id})
    for name, statuses in EXPLAINS.items():
        missing = rows_without_event(recent.filter(status__in=statuses), name, key="order_id")
        for row in missing.order_by("pk").iterator():
            facts = {"order": row.order_id, "status": row.status, "name": name}
            text = _("The stock of order %(order)s is %(status)s, but there is no event %(name)s.")
            yield _about(row, text % facts)
        yield from _events_without_answer(name, Reservation.objects.filter(status__in=statuses))


def _events_without_answer(name: str, reservations: QuerySet[Reservation]) -> Iterator[Difference]:
    for event in events_without_row(name, reservations, key="order_id").iterator():
        facts = {"name": name, "key": event.key}
        text = _(
            "There is an event %(name)s of order %(key)s, but its reservation has another status."
        )
        yield Difference(text % facts, key=event.key, row=event)
    for key in duplicate_event_keys(name).iterator():
        text = _("There are several events %(name)s of order %(key)s.")
        yield Difference(text % {"name": name, "key": key}, key=key)


def _about(reservation: Reservation, text: str) -> Difference:
    return Difference(text, key=str(reservation.order_id), row=reservation)


def _moved(column: str) -> Coalesce:
    movements = StockMovement.objects.filter(product=OuterRef("pk")).order_by().values("product")
    return Coalesce(Subquery(movements.annotate(sum=Sum(column)).values("sum")), 0)


Ledger = dict[tuple[str, str, str], list[int]]


def _ledger(lines: list[ReservationLine]) -> Ledger:
    """Return the movements of the lines' orders: (on hand, reserved) by product, order and kind."""
    rows = StockMovement.objects.filter(
        product__in={line.product_id for line in lines},
        kind__in=[Kind.RESERVED, Kind.RELEASED, Kind.ISSUED],
        reference__in={str(line.reservation_id) for line in lines},
    )
    columns = ("product_id", "reference", "kind", "on_hand", "reserved")
    return {(sku, order, kind): moved for sku, order, kind, *moved in rows.values_list(*columns)}


def _kinds_missing(line: ReservationLine, ledger: Ledger) -> Iterator[Kind]:
    place = (line.product_id, str(line.reservation_id))
    left = line.quantity - line.returned
    if ledger.get((*place, Kind.RESERVED)) != [0, line.quantity]:
        yield Kind.RESERVED
    status = line.reservation.status
    if status == Status.RELEASED and left and ledger.get((*place, Kind.RELEASED)) != [0, -left]:
        yield Kind.RELEASED
    # Units that were returned later were issued too, so the number issued is not known here.
    if status == Status.ISSUED and left and (*place, Kind.ISSUED) not in ledger:
        yield Kind.ISSUED
