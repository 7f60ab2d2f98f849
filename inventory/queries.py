"""What other apps, and the API, may ask inventory."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from django.db.models import F, QuerySet

from inventory.models import Product
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
