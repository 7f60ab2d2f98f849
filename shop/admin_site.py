"""The admin site, which makes every registered admin strict, also those of third-party apps."""

from __future__ import annotations

from typing import Any

from django.contrib.admin import AdminSite, ModelAdmin
from django.contrib.admin.forms import AdminAuthenticationForm
from django.http import HttpRequest

from shared.sign_in import ShortNameMixin


class LoginForm(ShortNameMixin, AdminAuthenticationForm):
    """The form of the admin's login."""


class StrictAdminSite(AdminSite):
    """The default site (see `shop.apps.AdminConfig`)."""

    login_form = LoginForm

    def register(
        self,
        model_or_iterable: Any,
        admin_class: type[ModelAdmin[Any]] | None = None,
        **options: Any,
    ) -> None:
        """Register as Django does, with `StrictAdminMixin` as the first base class."""
        super().register(model_or_iterable, _strict(admin_class or ModelAdmin), **options)

    def get_app_list(self, request: HttpRequest, app_label: str | None = None) -> list[Any]:
        """Return the apps, with the outbox's overview and its health light first."""
        from outbox.admin import overview_first  # as below

        return overview_first(super().get_app_list(request, app_label), request)


def _strict(kind: type[ModelAdmin[Any]]) -> type[ModelAdmin[Any]]:
    # The package of this module registers admins, which needs this site to exist.
    from outbox.admin.strict_lookups import StrictAdminMixin

    if issubclass(kind, StrictAdminMixin):
        return kind
    return type(kind.__name__, (StrictAdminMixin, kind), {"__module__": kind.__module__})
