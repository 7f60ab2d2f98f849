"""Inventory's subscriptions.

Each delivery runs in its own transaction (`shared_transaction=False`). Many orders want the same
product, so its row is not locked for longer than one order takes.
"""

from __future__ import annotations

from uuid import UUID

from inventory import services
from inventory.events import StockLine
from outbox import subscribe


@subscribe("orders.OrderPlaced", shared_transaction=False)
def reserve_stock(order_id: UUID, lines: list[StockLine]) -> None:
    services.reserve_stock(order_id=order_id, lines=lines)


@subscribe("orders.OrderCancelled", attempts=None, shared_transaction=False)
def release_stock(order_id: UUID) -> None:
    services.release_stock(order_id=order_id)


@subscribe("orders.OrderShipped", shared_transaction=False)
def issue_stock(order_id: UUID) -> None:
    services.issue_stock(order_id=order_id)


@subscribe("orders.RefundRequested", shared_transaction=False)
def return_stock(order_id: UUID, refund_id: UUID, returned: list[StockLine]) -> None:
    services.return_stock(order_id=order_id, refund_id=refund_id, lines=returned)
