"""System checks of webhooks, for `manage.py check --deploy`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.apps import AppConfig
from django.core.checks import CheckMessage, Tags, Warning, register

from webhooks.addresses import private_hosts


@register(Tags.security, deploy=True)
def check_private_hosts(
    app_configs: Sequence[AppConfig] | None = None,
    **kwargs: Any,
) -> list[CheckMessage]:
    hosts = private_hosts()
    if not hosts:
        return []
    return [
        Warning(
            f"Webhooks of customers may call hosts of our network: {', '.join(sorted(hosts))}.",
            hint="Remove WEBHOOK_PRIVATE_HOSTS, unless customers may call these hosts.",
            id="webhooks.W001",
        )
    ]
