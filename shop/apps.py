from django.apps import AppConfig
from django.conf import settings
from django.contrib.admin import apps as django_admin
from django.utils.translation import gettext_lazy as _


class ShopConfig(AppConfig):
    name = "shop"
    verbose_name = _("shop")

    def ready(self) -> None:
        from . import checks, sessions  # noqa: F401  importing registers them

        if settings.OTEL_EXPORTER_OTLP_ENDPOINT:
            from .telemetry import start

            start()


class AdminConfig(django_admin.AdminConfig):
    """Replaces `django.contrib.admin` in `INSTALLED_APPS`."""

    default = False  # the default config is `ShopConfig`
    default_site = "shop.admin_site.StrictAdminSite"
