import os
from functools import partial

from django.apps import AppConfig

from outbox.deliveries import failpoints
from tests.chaos.proving import crashes


class HarbourConfig(AppConfig):
    """An app whose events all sinks publish, and whose handlers count what all sources receive."""

    name = "tests.chaos.edges.harbour"
    label = "harbour"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        if "CHAOS_DIR" in os.environ:
            for point in (*failpoints.ALL, failpoints.BEFORE_STORE, failpoints.AFTER_STORE):
                failpoints.arm(point, partial(crashes.reach, point))
