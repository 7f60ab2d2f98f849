"""Django's entry: the schema learns of our tokens before anyone asks for it."""

from __future__ import annotations

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class ApiConfig(AppConfig):
    """Manners of the HTTP API."""

    name = "api"
    verbose_name = _("API")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Register the extensions of the schema."""
        from . import schema  # noqa: F401  importing registers them
