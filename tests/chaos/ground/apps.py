import os
import signal
from functools import partial
from pathlib import Path

from django.apps import AppConfig

from outbox.deliveries import failpoints


class GroundConfig(AppConfig):
    """The proving ground: an app whose handlers misbehave on demand."""

    name = "tests.chaos.ground"
    label = "ground"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Let one process die at a point of the engine, where a file asks for it."""
        if folder := os.environ.get("GROUND_DIR"):
            for point in failpoints.ALL:
                failpoints.arm(point, partial(die_if_asked, Path(folder) / f"die-{point}"))


def die_if_asked(file: Path) -> None:
    try:
        file.unlink()
    except FileNotFoundError:
        return
    os.kill(os.getpid(), signal.SIGKILL)
