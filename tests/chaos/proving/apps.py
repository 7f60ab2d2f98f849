from django.apps import AppConfig

from tests.chaos.proving import crashes, sabotage


class ProvingConfig(AppConfig):
    """An app beside the shop's own, whose handlers leave behind what a checker can count."""

    name = "tests.chaos.proving"
    label = "proving"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        crashes.arm()
        sabotage.commit()
