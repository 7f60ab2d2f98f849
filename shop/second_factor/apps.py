"""App configuration."""

from __future__ import annotations

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class SecondFactorConfig(AppConfig):
    """The second factor of staff."""

    name = "shop.second_factor"
    label = "second_factor"
    verbose_name = _("Second factor")
