"""System checks of `manage.py check --deploy`, each with a hint."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from django.apps import AppConfig
from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register
from django.core.exceptions import ImproperlyConfigured
from django.http.request import validate_host

from shop.proxies import trusted_proxies

#: Larger networks are not a set of proxies; fc00::/7 and 10.0.0.0/8 may be.
SHORTEST_PREFIX = 7


@register(Tags.security, deploy=True)
def check_production(
    app_configs: Sequence[AppConfig] | None = None,
    **kwargs: Any,
) -> list[CheckMessage]:
    """Return a warning for each setting that suits only a developer's machine."""
    return [*_database(), *_debug(), *_hosts(), *_origin(), *_broker(), *_email(), *_proxies()]


def _database() -> list[CheckMessage]:
    if "sqlite" not in settings.DATABASES["default"]["ENGINE"]:
        return []
    return [
        Warning(
            "The database is SQLite, which lets one process write at a time.",
            hint="Set DATABASE_URL to postgres://user:password@host:5432/name.",
            id="shop.W001",
        )
    ]


def _debug() -> list[CheckMessage]:
    if not settings.DEBUG:
        return []
    return [
        Warning(
            "DEBUG is on, so error pages show settings and source code.",
            hint="Remove DEBUG from the environment, or set DEBUG=false.",
            id="shop.W002",
        )
    ]


def _hosts() -> list[CheckMessage]:
    if "*" not in settings.ALLOWED_HOSTS:
        return []
    return [
        Warning(
            "ALLOWED_HOSTS contains '*', so anyone may choose the host name in our links.",
            hint="Set ALLOWED_HOSTS to this site's host names, separated by commas.",
            id="shop.W003",
        )
    ]


def _origin() -> list[CheckMessage]:
    name = urlsplit(settings.SITE_ORIGIN).hostname or ""
    if not name:
        return [
            Warning(
                "SITE_ORIGIN is not set, so links in e-mails have the host name of a request.",
                hint="Set SITE_ORIGIN to this site's scheme and host name, such as "
                "https://shop.example.com.",
                id="shop.W009",
            )
        ]
    if validate_host(f"[{name}]" if ":" in name else name, settings.ALLOWED_HOSTS):
        return _scheme_of_the_origin()
    return [
        Warning(
            f"The host {name} of SITE_ORIGIN is refused, so no link in an e-mail works.",
            hint="Add it to ALLOWED_HOSTS, or correct SITE_ORIGIN.",
            id="shop.W010",
        )
    ]


def _scheme_of_the_origin() -> list[CheckMessage]:
    if not settings.SECURE_SSL_REDIRECT or settings.SITE_ORIGIN.startswith("https:"):
        return []
    return [
        Warning(
            "SITE_ORIGIN begins with http:// and HTTPS is on, so the secret part of a link in an "
            "e-mail is sent unencrypted once.",
            hint="Set SITE_ORIGIN to the address with https://.",
            id="shop.W011",
        )
    ]


def _broker() -> list[CheckMessage]:
    urls = [urlsplit(one) for one in settings.CELERY_BROKER_URL.split(";")]
    if all(one.password or one.scheme == "sqs" for one in urls):  # SQS refuses others itself
        return []
    return [
        Warning(
            "The broker has no password, so anyone who reaches its port can send tasks.",
            hint="Give the broker a password and put it into REDIS_URL (or AMQP_URL).",
            id="shop.W004",
        )
    ]


def _email() -> list[CheckMessage]:
    backend = settings.EMAIL_BACKEND.split(".")[-2]
    if backend not in {"console", "filebased", "dummy", "locmem"}:
        return []
    return [
        Warning(
            f"The {backend} e-mail backend sends no e-mails.",
            hint="Set EMAIL_URL to smtp+tls://user:password@host:587.",
            id="shop.W005",
        )
    ]


def _proxies() -> list[CheckMessage]:
    try:
        trusted = trusted_proxies()
    except ImproperlyConfigured as error:
        text, _dot, hint = str(error).partition(". ")
        return [Error(f"{text}.", hint=hint, id="shop.E001")]
    names_some = bool(trusted.networks or trusted.has_unix)
    if settings.BEHIND_PROXY and not names_some:
        return [
            Warning(
                "BEHIND_PROXY is on but TRUSTED_PROXIES is empty, so the proxy's headers "
                "are dropped. All clients count as one, and HTTPS is not detected.",
                hint="Set TRUSTED_PROXIES to the addresses or networks of your proxies.",
                id="shop.W006",
            )
        ]
    if names_some and not settings.BEHIND_PROXY:
        return [
            Warning(
                "TRUSTED_PROXIES has no effect, because BEHIND_PROXY is off.",
                hint="Set BEHIND_PROXY=true, or remove TRUSTED_PROXIES.",
                id="shop.W007",
            )
        ]
    if any(network.prefixlen < SHORTEST_PREFIX for network in trusted.networks):
        return [
            Warning(
                "TRUSTED_PROXIES contains almost every address, so clients can forge their own.",
                hint="Set it to the addresses or networks of your proxies only.",
                id="shop.W008",
            )
        ]
    return []
