"""The modes of Stripe's secret keys. Needs no SDK."""

from __future__ import annotations


def is_live_key(api_key: str) -> bool:
    """Return whether the key charges real cards, such as sk_live_1 or rk_live_1."""
    return "_live_" in api_key
