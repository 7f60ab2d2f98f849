"""Products and stock for tests."""

from __future__ import annotations

from inventory import services
from inventory.events import StockLine
from inventory.models import Product, Stock, StockMovement
from shared.money import Money


def put_on_sale(sku: str = "TEA", *, units: int = 5, price: int = 500) -> Product:
    product = services.add_product(
        sku=sku, name=sku.title(), unit_price=Money(amount=price, currency="JPY")
    )
    if units:
        services.receive_stock(sku=sku, quantity=units, reference="test")
    return product


def line(sku: str = "TEA", quantity: int = 1) -> StockLine:
    return StockLine(sku=sku, quantity=quantity)


def counters(sku: str = "TEA") -> tuple[int, int]:
    """What is on hand, and what of it is reserved."""
    stock = Stock.objects.get(pk=sku)
    return stock.on_hand, stock.reserved


def ledger(sku: str = "TEA") -> tuple[int, int]:
    """What the counters must be, by the ledger."""
    movements = list(StockMovement.objects.filter(product_id=sku))
    return sum(row.on_hand for row in movements), sum(row.reserved for row in movements)
