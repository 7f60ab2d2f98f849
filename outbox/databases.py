"""The database that holds the outbox."""

from __future__ import annotations

from django.apps import apps
from django.db import router


def alias() -> str:
    """Return the alias of the database that holds the outbox, as the project's router decides.

    Emitters, relays, workers, operations and the monitor all call it. So a router that moves the
    app `outbox` moves all of them.
    """
    return router.db_for_write(apps.get_model("outbox", "Event"))
