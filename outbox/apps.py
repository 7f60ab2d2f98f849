"""Django's AppConfig of the outbox."""

from __future__ import annotations

from typing import Any

from django.apps import AppConfig
from django.db import connections
from django.db.models.signals import post_migrate, pre_migrate
from django.utils.module_loading import autodiscover_modules
from django.utils.translation import gettext_lazy as _


class OutboxConfig(AppConfig):
    """The transactional outbox."""

    name = "outbox"
    verbose_name = _("Outbox")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Import `events`, then `handlers`, of every app. Sync subscriptions after `migrate`."""
        from . import checks, own_events  # noqa: F401  imports register checks and the event
        from .checks.old_tables import refuse_old_tables
        from .guards.hooks import start

        autodiscover_modules("events")
        autodiscover_modules("handlers")
        pre_migrate.connect(refuse_old_tables, sender=self)
        post_migrate.connect(_sync_subscriptions, sender=self)
        start()


def _sync_subscriptions(*, using: str, **_kwargs: Any) -> None:
    from . import databases
    from .deliveries.sync import sync_subscriptions
    from .models import Subscription

    if using != databases.alias():
        return
    # The table is missing after `migrate auth` on an empty database and `migrate outbox zero`.
    if Subscription._meta.db_table in connections[using].introspection.table_names():
        sync_subscriptions(using=using)
