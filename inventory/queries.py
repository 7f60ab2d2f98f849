"""Reads of inventory for other apps and the API."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from uuid import UUID

from django.db.models import F, QuerySet, TextChoices
from django.utils.translation import gettext_lazy as _

from inventory.models import Product, Reservation
from shared.money import Money


@dataclass(frozen=True, kw_only=True)
class PricedProduct:
    sku: str
    name: str
    unit_price: Money


def price_list(skus: Iterable[str]) -> dict[str, PricedProduct]:
    """Return the current prices by SKU. Leave out SKUs that are unknown or not on sale."""
    products = Product.objects.filter(sku__in=set(skus), on_sale=True)
    return {
        product.sku: PricedProduct(
            sku=product.sku, name=product.name, unit_price=product.unit_price
        )
        for product in products
    }


def catalogue() -> QuerySet[Product]:
    """Return the products on sale, each with the number of units available."""
    return Product.objects.filter(on_sale=True).annotate(
        available=F("stock__on_hand") - F("stock__reserved")
    )


class Place(TextChoices):
    """The place of an order's goods; `label` is for display."""

    RESERVED = "set_aside", _("set aside")
    ISSUED = "issued", _("issued")
    RELEASED = "let_go", _("let go")
    OPEN = "open", _("not answered")


PLACES = {
    Reservation.Status.RESERVED: Place.RESERVED,
    Reservation.Status.ISSUED: Place.ISSUED,
    Reservation.Status.REFUSED: Place.RELEASED,
    Reservation.Status.RELEASED: Place.RELEASED,
    Reservation.Status.FORESTALLED: Place.RELEASED,
    Reservation.Status.ASKED: Place.OPEN,
}


@dataclass(frozen=True, kw_only=True)
class ReservationSummary:
    """The place and the units of an order's goods.

    Attributes:
        units: by SKU, how many were reserved, and how many of those were returned.
    """

    place: Place
    units: dict[str, tuple[int, int]]


def reservations(order_ids: Iterable[UUID]) -> dict[UUID, ReservationSummary]:
    """Return the reservations of these orders, in two queries. Leave out orders without one."""
    rows = Reservation.objects.filter(order_id__in=list(order_ids)).prefetch_related("lines")
    return {
        row.order_id: ReservationSummary(
            place=PLACES[Reservation.Status(row.status)],
            units={line.product_id: (line.quantity, line.returned) for line in row.lines.all()},
        )
        for row in rows
    }
