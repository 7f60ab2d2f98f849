"""What inventory hears."""

from __future__ import annotations

from uuid import UUID

from inventory import services
from inventory.events import StockLine
from outbox import subscribe


@subscribe("orders.OrderPlaced")
def reserve_stock(order_id: UUID, lines: list[StockLine]) -> None:
    services.reserve_stock(order_id=order_id, lines=lines)


@subscribe("orders.OrderCancelled", attempts=None)
def release_stock(order_id: UUID) -> None:
    services.release_stock(order_id=order_id)


@subscribe("orders.OrderShipped")
def issue_stock(order_id: UUID) -> None:
    services.issue_stock(order_id=order_id)


@subscribe("orders.RefundRequested")
def return_stock(order_id: UUID, refund_id: UUID, returned: list[StockLine]) -> None:
    services.return_stock(order_id=order_id, refund_id=refund_id, lines=returned)
