"""What `manage.py check` says about the gateway's settings, each with what to do about it."""

from __future__ import annotations

from collections.abc import Sequence
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
    return [*_url(), *_timeout()]


@register(Tags.security, deploy=True)
def check_production_gateway(
    app_configs: Sequence[AppConfig] | None = None,
    **kwargs: Any,
) -> list[CheckMessage]:
    """Return a warning if anybody could speak to the bank in our name."""
    if settings.BANK_API_KEY:
        return []
    return [
        Warning(
            "BANK_API_KEY is empty, so the bank cannot tell us from anybody else.",
            hint="Set BANK_API_KEY to the key that the bank gave you.",
            id="payments.W001",
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
            hint="Remove it for the default, or set it to the seconds that the bank may take.",
            id="payments.E002",
        )
    ]
