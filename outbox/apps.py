"""Django's entry: every app's events first, then every app's handlers."""

from __future__ import annotations

from typing import Any

from django.apps import AppConfig
from django.db import connections
from django.db.models.signals import post_migrate
from django.utils.module_loading import autodiscover_modules
from django.utils.translation import gettext_lazy as _


class OutboxConfig(AppConfig):
    """The transactional outbox."""

    name = "outbox"
    verbose_name = _("Outbox")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Load `events` and `handlers` of every installed app; sync the rows after migrate."""
        from . import checks, own_events  # noqa: F401  they register the system checks
        from .checks import deploy as deploy_checks  # noqa: F401  they register the system checks
        from .guards.hooks import start

        autodiscover_modules("events")
        autodiscover_modules("handlers")
        post_migrate.connect(_sync_subscriptions, sender=self)
        start()


def _sync_subscriptions(*, using: str, **_kwargs: Any) -> None:
    from . import databases
    from .deliveries.sync import sync_subscriptions
    from .models import Subscription

    if using != databases.alias():
        return
    # Not yet, or no longer, there: `migrate auth` on an empty database, `migrate outbox zero`.
    if Subscription._meta.db_table in connections[using].introspection.table_names():
        sync_subscriptions(using=using)
