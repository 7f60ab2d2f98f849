"""What other apps, and the API, may ask inventory."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from uuid import UUID

from django.db.models import F, QuerySet, TextChoices
from django.utils.translation import gettext_lazy as _

from inventory.models import Product, Reservation
from money import Money


@dataclass(frozen=True, kw_only=True)
class PricedProduct:
    sku: str
    name: str
    unit_price: Money


def price_list(skus: Iterable[str]) -> dict[str, PricedProduct]:
    """The current prices by SKU. What is unknown or not on sale is left out."""
    products = Product.objects.filter(sku__in=set(skus), on_sale=True)
    return {
        product.sku: PricedProduct(
            sku=product.sku, name=product.name, unit_price=product.unit_price
        )
        for product in products
    }


def catalogue() -> QuerySet[Product]:
    """What is on sale, each with the number of units that are still available."""
    return Product.objects.filter(on_sale=True).annotate(
        available=F("stock__on_hand") - F("stock__reserved")
    )


class Place(TextChoices):
    """Where the goods of an order are; its `label` is for people."""

    SET_ASIDE = "set_aside", _("set aside")
    ISSUED = "issued", _("issued")
    LET_GO = "let_go", _("let go")
    OPEN = "open", _("not answered")


PLACES = {
    Reservation.Status.RESERVED: Place.SET_ASIDE,
    Reservation.Status.ISSUED: Place.ISSUED,
    Reservation.Status.REFUSED: Place.LET_GO,
    Reservation.Status.RELEASED: Place.LET_GO,
    Reservation.Status.FORESTALLED: Place.LET_GO,
    Reservation.Status.ASKED: Place.OPEN,
}


@dataclass(frozen=True, kw_only=True)
class ReservationSummary:
    """Where the goods of an order are.

    Attributes:
        units: by SKU, how many were reserved, and how many of them were returned.
    """

    place: Place
    units: dict[str, tuple[int, int]]


def reservations(order_ids: Iterable[UUID]) -> dict[UUID, ReservationSummary]:
    """The reservations of these orders, in two reads; without one the order is left out."""
    rows = Reservation.objects.filter(order_id__in=list(order_ids)).prefetch_related("lines")
    return {
        row.order_id: ReservationSummary(
            place=PLACES[Reservation.Status(row.status)],
            units={line.product_id: (line.quantity, line.returned) for line in row.lines.all()},
        )
        for row in rows
    }
