from typing import Any

from django.db.models import Model


class OutboxRouter:
    """Moves the app `outbox` to the database `events`. Other apps stay in `default`."""

    def db_for_read(self, model: type[Model], **_hints: Any) -> str | None:
        return "events" if model._meta.app_label == "outbox" else None

    db_for_write = db_for_read

    def allow_migrate(self, db: str, app_label: str, **_hints: Any) -> bool:
        return (app_label == "outbox") == (db == "events")
