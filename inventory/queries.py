"""Reads of inventory for other apps and the API."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from uuid import UUID

from django.db.models import F, QuerySet, TextChoices
from django.utils.translation import get_language
from django.utils.translation import gettext_lazy as _

from inventory.models import Product, Reservation, Stock
from shared.money import Money


@dataclass(frozen=True, kw_only=True)
class PricedProduct:
    sku: str
    name: str
    unit_price: Money


def price_list(skus: Iterable[str], *, language: str = "") -> dict[str, PricedProduct]:
    """Return the current prices by SKU. Leave out SKUs that are unknown or not on sale.

    Args:
        language: of the names, such as "ja"; the current one by default.
    """
    language = language or get_language() or ""
    products = _for_sale().filter(sku__in=set(skus))
    return {
        product.sku: PricedProduct(
            sku=product.sku, name=product.name_in(language), unit_price=product.unit_price
        )
        for product in products
    }


def catalogue() -> QuerySet[Product]:
    """Return the products on sale, each with the number of units available."""
    return _for_sale().annotate(available=F("stock__on_hand") - F("stock__reserved"))


def _for_sale() -> QuerySet[Product]:
    """Return the products on sale. One without a price is not: no bank authorizes 0."""
    return Product.objects.filter(on_sale=True, price__gte=1)


def available(skus: Iterable[str]) -> dict[str, int]:
    """Return the units that an order could reserve now, by SKU."""
    rows = Stock.objects.filter(product_id__in=set(skus))
    return {row.product_id: row.available for row in rows}


class StockState(TextChoices):
    """The state of an order's goods; `label` is for display."""

    RESERVED = "reserved", _("reserved")
    ISSUED = "issued", _("issued")
    RELEASED = "released", _("released")
    OPEN = "open", _("not decided")


STATES = {
    Reservation.Status.RESERVED: StockState.RESERVED,
    Reservation.Status.ISSUED: StockState.ISSUED,
    Reservation.Status.REFUSED: StockState.RELEASED,
    Reservation.Status.RELEASED: StockState.RELEASED,
    Reservation.Status.FORESTALLED: StockState.RELEASED,
    Reservation.Status.ASKED: StockState.OPEN,
}


@dataclass(frozen=True, kw_only=True)
class ReservationSummary:
    """The state and the units of an order's goods.

    Attributes:
        units: by SKU, how many were reserved, and how many of those were returned.
    """

    state: StockState
    units: dict[str, tuple[int, int]]


def reservations(order_ids: Iterable[UUID]) -> dict[UUID, ReservationSummary]:
    """Return the reservations of these orders, in two queries. Leave out orders without one."""
    rows = Reservation.objects.filter(order_id__in=list(order_ids)).prefetch_related("lines")
    return {
        row.order_id: ReservationSummary(
            state=STATES[Reservation.Status(row.status)],
            units={line.product_id: (line.quantity, line.returned) for line in row.lines.all()},
        )
        for row in rows
    }
