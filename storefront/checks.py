"""System check of the checkout, for `manage.py check --deploy`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.apps import AppConfig
from django.core.checks import CheckMessage, Warning, register

from storefront.cards import cards_in_use


@register("storefront", deploy=True)
def check_cards(
    app_configs: Sequence[AppConfig] | None = None,
    **kwargs: Any,
) -> list[CheckMessage]:
    """Return a warning if the checkout has no payment method."""
    if cards_in_use():
        return []
    return [
        Warning(
            "The checkout offers no payment method: STRIPE_API_KEY is a live key, and "
            "storefront/cards.py has test cards only.",
            hint="Replace storefront/cards.py by a form of Stripe, or set a test key.",
            id="storefront.W001",
        )
    ]
