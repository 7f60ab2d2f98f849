"""Django's AppConfig of the outbox."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TextIO

from django.apps import AppConfig
from django.core.management.base import CommandError
from django.db import connections
from django.db.migrations.recorder import MigrationRecorder
from django.db.models.signals import post_migrate, pre_migrate
from django.utils.module_loading import autodiscover_modules
from django.utils.translation import gettext_lazy as _

if TYPE_CHECKING:
    from django.db.models import Model

    from outbox.models import Subscription

#: The second migration of the earlier chain (`refuse_old_tables`). No release may use its name.
_OLD_SECOND = "0002_ordered_breakers_delayed"


class OutboxConfig(AppConfig):
    """The transactional outbox."""

    name = "outbox"
    verbose_name = _("Outbox")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Import `events`, then `handlers`, of every app. Register sinks and queues of tasks.

        `migrate` syncs the subscriptions afterwards.
        """
        from . import checks  # noqa: F401  the import registers the checks
        from .celery_tasks import events as _called  # noqa: F401  it registers `CeleryTaskCalled`
        from .checks.reversals import refuse_losses
        from .guards.hooks import start
        from .privacy import redaction  # noqa: F401  the import registers `SubjectRedacted`
        from .settlements import events  # noqa: F401  the import registers `Settled`
        from .sinks.publishing import register_sinks
        from .sources import configuration, unreadable  # noqa: F401  it registers its events
        from .tasks_backend.registration import register_tasks
        from .transports.celery_app import is_importable

        autodiscover_modules("events")
        autodiscover_modules("handlers")
        register_sinks()
        register_tasks()
        if configuration.names():
            from .sources.reading_again import subscribe_reader

            subscribe_reader()
        if is_importable():
            from .celery_tasks.sending import subscribe_sender

            subscribe_sender()
        pre_migrate.connect(refuse_old_tables, sender=self)
        pre_migrate.connect(refuse_losses, sender=self)
        post_migrate.connect(_sync_subscriptions, sender=self)
        start()


def _sync_subscriptions(
    *, using: str, verbosity: int = 1, stdout: TextIO | None = None, **_kwargs: Any
) -> None:
    from . import databases
    from .deliveries.sync import sync_subscriptions
    from .models import Subscription

    if using not in databases.aliases():
        return
    if _has_columns(Subscription, using=using):
        for row in sync_subscriptions(using=using):
            if verbosity:
                print(_unknown_text(row, using=using), file=stdout)


def _has_columns(model: type[Model], *, using: str) -> bool:
    """Return whether the table has every column of a model.

    It is missing after `migrate auth` on an empty database and `migrate outbox zero`. Columns are
    missing after `migrate` to an earlier migration, before an earlier release is installed.
    """
    connection, table = connections[using], model._meta.db_table
    with connection.cursor() as cursor:
        if table not in connection.introspection.table_names(cursor):
            return False  # the description of a missing table is an error
        found = connection.introspection.get_table_description(cursor, table)
    columns = {field.column for field in model._meta.concrete_fields}
    return columns <= {column.name for column in found}


def _unknown_text(row: Subscription, *, using: str) -> str:
    from .formatting import end_command
    from .models import Delivery
    from .subscriptions import find

    mine = Delivery.objects.using(using).filter(subscription=row, state__in=Delivery.OWED)
    cause = f"This code has no handler {row.handler}"
    step = end_command(row.handler)
    rename = " If you renamed it, name it in the `formerly=` of its successor."
    if find(row.handler) is not None:
        cause = f"The handler {row.handler} no longer subscribes to {row.event}"
        step, rename = end_command(row.handler, row.event), ""
    return (
        f"outbox: {cause}. Its subscription to {row.event} is marked unknown, and its owed "
        f"deliveries ({mine.count():,}) are parked.{rename} If it should be there, correct the "
        "code or OUTBOX. Then run migrate again. Otherwise end it, which discards its owed "
        f"deliveries: {step}. Until then, each new event gets a parked delivery."
    )


def refuse_old_tables(*, using: str, **_kwargs: Any) -> None:
    """Raise CommandError if the tables of `using` are older than the first release.

    Development copies recorded the `0001_initial` of an earlier chain of migrations. So `migrate`
    would skip the present `0001_initial` and leave the old tables as they are.
    """
    applied = MigrationRecorder(connections[using]).applied_migrations()
    if ("outbox", _OLD_SECOND) not in applied:
        return
    last = max(name for label, name in applied if label == "outbox")
    raise CommandError(
        f"The database {using} was migrated before the first release of the outbox "
        f"(django_migrations lists outbox.{_OLD_SECOND} to outbox.{last}), and this release cannot "
        f"update its tables: {_replacement(using)}, then migrate again."
    )


def _replacement(using: str) -> str:
    connection = connections[using]
    database = connection.settings_dict
    if connection.vendor == "sqlite":
        return f"delete the file {database['NAME']}"
    return (
        f"drop and create the database {database['NAME']} at {database['HOST']}:{database['PORT']}"
    )
