"""System checks of the gateway's settings, each with a hint."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any
from urllib.parse import urlsplit

from django.apps import AppConfig
from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register

from payments import gateway


@register("payments")
def check_gateway(
    app_configs: Sequence[AppConfig] | None = None,
    **kwargs: Any,
) -> list[CheckMessage]:
    """Return an error for each setting with which no payment can work."""
    if settings.GATEWAY not in {"bank", "stripe"}:
        return [_unknown_gateway()]
    of_this_gateway = _stripe() if settings.GATEWAY == "stripe" else _url()
    return [*of_this_gateway, *_timeout()]


@register(Tags.security, deploy=True)
def check_production_gateway(
    app_configs: Sequence[AppConfig] | None = None,
    **kwargs: Any,
) -> list[CheckMessage]:
    """Return a warning if the shop or the bank could not authenticate the other."""
    return [*_api_key(), *_webhook_secrets()]


def _api_key() -> list[CheckMessage]:
    if settings.BANK_API_KEY or settings.GATEWAY != "bank":
        return []
    return [
        Warning(
            "BANK_API_KEY is empty, so the bank cannot authenticate the shop.",
            hint="Set BANK_API_KEY to the key that the bank gave you.",
            id="payments.W001",
        )
    ]


def _webhook_secrets() -> list[CheckMessage]:
    if any(settings.BANK_WEBHOOK_SECRETS):
        return []
    return [
        Warning(
            "BANK_WEBHOOK_SECRETS is empty, so each webhook of the bank is refused.",
            hint="Set BANK_WEBHOOK_SECRETS to the secret with which the bank or Stripe "
            "signs webhooks.",
            id="payments.W002",
        )
    ]


def _unknown_gateway() -> CheckMessage:
    return Error(
        f"GATEWAY is {settings.GATEWAY!r}, which is not a payment gateway.",
        hint='Set GATEWAY to "bank" or to "stripe".',
        id="payments.E003",
    )


def _stripe() -> list[CheckMessage]:
    if find_spec("stripe") is None:
        hint = "Install it: pip install stripe."
        return [
            Error(
                "GATEWAY is 'stripe', but the package stripe is not installed.",
                hint=hint,
                id="payments.E004",
            )
        ]
    return [*_stripe_key(), *_currency()]


def _stripe_key() -> list[CheckMessage]:
    if settings.STRIPE_API_KEY:
        return []
    hint = "Set STRIPE_API_KEY to a secret or restricted key of your Stripe account."
    return [
        Error("GATEWAY is 'stripe', but STRIPE_API_KEY is empty.", hint=hint, id="payments.E005")
    ]


def _currency() -> list[CheckMessage]:
    currency = settings.SHOP_CURRENCY
    if gateway.takes_currency(currency):
        return []
    return [
        Error(
            f"SHOP_CURRENCY is {currency!r}, of which Stripe takes no exact amounts.",
            hint="Set SHOP_CURRENCY to another currency. docs/how-to/connect-a-bank.md lists "
            "those that are refused with Stripe.",
            id="payments.E006",
        )
    ]


def _url() -> list[CheckMessage]:
    url = urlsplit(settings.BANK_URL)
    if url.scheme in {"http", "https"} and url.hostname:
        return []
    return [
        Error(
            f"BANK_URL is {settings.BANK_URL!r}, so no payment can be authorized.",
            hint="Set BANK_URL to the bank's address, such as https://bank.example; "
            "`manage.py up` starts a simulated bank and sets it.",
            id="payments.E001",
        )
    ]


def _timeout() -> list[CheckMessage]:
    if gateway.timeout_seconds() > 0:
        return []
    return [
        Error(
            "BANK_TIMEOUT_SECONDS must be greater than 0.",
            hint="Remove it for the default, or set it to the number of seconds to wait "
            "for the bank.",
            id="payments.E002",
        )
    ]
