"""What a customer does in the storefront: place and cancel orders, through the API."""

from __future__ import annotations

from collections.abc import Mapping
from uuid import UUID

from django.http import HttpRequest
from django.utils.translation import get_language

from storefront import api_client

#: Codes of the API for a key that has placed an order already.
PLACED_BEFORE = {"idempotency_key_reused", "idempotency_answer_gone"}


class PlacedBefore(Exception):
    """The key has placed an order before, with another card or another basket."""


def place_order(
    request: HttpRequest, *, key: str, lines: Mapping[str, int], card: str, email: str
) -> UUID:
    """Place an order and return its id. A repetition with the same key returns the same id.

    Args:
        key: the idempotency key of the basket.
        lines: units by SKU.
        card: the bank's token of a payment method.

    Raises:
        PlacedBefore: the key was used for other values.
        RefusedByApi: the API refused the order.
    """
    body = {
        "payment_method": card,
        "lines": [{"sku": sku, "quantity": quantity} for sku, quantity in lines.items()],
        "email": email,
        "language": get_language() or "en",
    }
    try:
        answer = api_client.post(request, "orders:orders", key=key, body=body)
    except api_client.RefusedByApi as refusal:
        if refusal.code in PLACED_BEFORE:
            raise PlacedBefore(PlacedBefore.__doc__) from refusal
        raise
    return UUID(str(answer["id"]))


def cancel_order(request: HttpRequest, *, order_id: UUID) -> None:
    """Cancel an order of the user. A repetition changes nothing.

    Raises:
        RefusedByApi: the order is shipped, or is not the user's.
    """
    # One key for each order: a second click is the same request.
    api_client.post(request, "orders:cancellation", order_id, key=f"cancel-{order_id}", body={})
