"""Why a delivery is where it is, in one sentence."""

from __future__ import annotations

from .models import Delivery


def why(delivery: Delivery) -> str:
    """Say why a delivery is in its state."""
    return delivery.note
