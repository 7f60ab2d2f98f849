"""Public names and bodies of messages to customers' systems. They are a stable API.

An order has the same form as in the API for its owner, without address, language and refunds: a
refund has a message of its own. Fields are only ever added.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from orders.queries import OrderSummary
from shared.money import Money

PING = "ping"


def body(*, kind: str, at: datetime, data: dict[str, Any]) -> str:
    """Return the body exactly as it is signed and sent."""
    moment = at.astimezone(UTC).isoformat().replace("+00:00", "Z")
    return json.dumps(
        {"type": kind, "timestamp": moment, "data": data}, separators=(",", ":"), ensure_ascii=False
    )


def order_data(order: OrderSummary) -> dict[str, Any]:
    return {
        "id": str(order.order_id),
        "reference": order.reference,
        "status": order.status,
        "cancel_reason": order.cancel_reason,
        "total": order.total.model_dump(),
        "lines": [
            {
                "sku": line.sku,
                "name": line.name,
                "quantity": line.quantity,
                "unit_price": line.unit_price.model_dump(),
                "total": line.total.model_dump(),
            }
            for line in order.lines
        ],
        "carrier": order.carrier,
        "tracking_number": order.tracking_number,
        "placed_at": order.placed_at.isoformat().replace("+00:00", "Z"),
        "changed_at": order.changed_at.isoformat().replace("+00:00", "Z"),
    }


def refund_data(*, refund_id: str, amount: Money) -> dict[str, Any]:
    return {"id": refund_id, "amount": amount.model_dump()}
