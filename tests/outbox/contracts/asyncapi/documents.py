"""Small AsyncAPI documents for tests."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

PAYLOAD = {
    "type": "object",
    "properties": {
        "order_id": {"type": "string", "format": "uuid"},
        "amount": {"type": "integer"},
        "status": {"enum": ["open", "paid"]},
        "note": {"type": "string"},
    },
    "required": ["order_id", "amount", "status"],
}


def of_billing(
    *, action: str = "send", payload: Any = PAYLOAD, message: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Return a document with one channel and one message, InvoicePaid."""
    return deepcopy(
        {
            "asyncapi": "3.0.0",
            "info": {"title": "Billing", "version": "1.0.0"},
            "channels": {
                "invoices": {
                    "address": "billing.invoices",
                    "messages": {"paid": {"$ref": "#/components/messages/InvoicePaid"}},
                }
            },
            "operations": {
                "publish": {
                    "action": action,
                    "channel": {"$ref": "#/channels/invoices"},
                    "messages": [{"$ref": "#/channels/invoices/messages/paid"}],
                }
            },
            "components": {
                "messages": {
                    "InvoicePaid": {
                        "name": "com.example.invoice.paid",
                        "contentType": "application/json",
                        "payload": payload,
                        **(message or {}),
                    }
                }
            },
        }
    )


def changed(properties: dict[str, Any] | None = None, **keywords: Any) -> dict[str, Any]:
    """Return the payload's schema with other properties (None removes one) and keywords."""
    given = {**PAYLOAD["properties"], **(properties or {})}  # type: ignore[dict-item]  # a mapping
    kept = {name: one for name, one in given.items() if one is not None}
    required = [one for one in PAYLOAD["required"] if one in kept]
    return {**PAYLOAD, "properties": kept, "required": required, **keywords}
