from django.apps import AppConfig


class GroundConfig(AppConfig):
    """The proving ground: an app whose handlers misbehave on demand."""

    name = "tests.chaos.ground"
    label = "ground"
    default_auto_field = "django.db.models.BigAutoField"
