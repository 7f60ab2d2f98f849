"""App configuration: the schema knows our tokens before it is generated."""

from __future__ import annotations

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class ApiConfig(AppConfig):
    """Conventions of the HTTP API."""

    name = "api"
    verbose_name = _("API")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Register the extensions of the schema."""
        from . import schema  # noqa: F401  importing registers them
