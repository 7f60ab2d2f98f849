"""The port to the bank (`Gateway`), and the adapter that the settings choose."""

from __future__ import annotations

from datetime import timedelta

from django.conf import settings

from payments.gateway.bank import BankGateway
from payments.gateway.currencies import exact_at_stripe
from payments.gateway.port import (
    Authorization,
    BankRecord,
    Capture,
    Gateway,
    GatewayRefused,
    GatewayUnavailable,
    OutcomeUnknown,
    Refund,
    RefundPending,
    Report,
    ReportRefused,
    Void,
)
from payments.gateway.stripe_keys import is_live_key

__all__ = [
    "Authorization",
    "BankGateway",
    "BankRecord",
    "Capture",
    "Gateway",
    "GatewayRefused",
    "GatewayUnavailable",
    "OutcomeUnknown",
    "Refund",
    "RefundPending",
    "Report",
    "ReportRefused",
    "Void",
    "current",
    "has_live_key",
    "takes_currency",
    "timeout_seconds",
]


def current() -> Gateway:
    """Return the gateway that the setting GATEWAY names, built from its settings."""
    return {"bank": _bank, "stripe": _stripe}[settings.GATEWAY]()


def _bank() -> Gateway:
    return BankGateway(
        url=settings.BANK_URL,
        api_key=settings.BANK_API_KEY,
        timeout=timeout_seconds(),
        processing_time=timedelta(seconds=settings.BANK_PROCESSING_SECONDS),
        webhook_secrets=settings.BANK_WEBHOOK_SECRETS,
    )


def _stripe() -> Gateway:
    from payments.gateway.stripe import StripeGateway  # its SDK is an extra: import it only if used

    return StripeGateway(
        url=settings.STRIPE_API_URL,
        api_key=settings.STRIPE_API_KEY,
        timeout=timeout_seconds(),
        webhook_secrets=settings.BANK_WEBHOOK_SECRETS,
    )


def takes_currency(currency: str) -> bool:
    """Return whether the bank of the settings takes exact amounts of this currency (ISO 4217)."""
    return settings.GATEWAY != "stripe" or exact_at_stripe(currency)


def has_live_key() -> bool:
    """Return whether the settings have a live key of Stripe. The other bank's has no mode."""
    return settings.GATEWAY == "stripe" and is_live_key(settings.STRIPE_API_KEY)


def timeout_seconds() -> float:
    """Return the setting BANK_TIMEOUT_SECONDS: seconds to wait for the bank (default 10)."""
    return float(getattr(settings, "BANK_TIMEOUT_SECONDS", 10))
