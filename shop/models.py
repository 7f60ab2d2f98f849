"""Models of the shop as a whole: the latest reconciliations."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.utils.translation import gettext_lazy as _


class Reconciliation(models.Model):
    """One reconciliation and its differences. Only the latest are kept."""

    KEPT: ClassVar[int] = 200

    checked_at = models.DateTimeField(_("checked at"))
    seconds = models.FloatField(_("seconds"))
    balanced = models.BooleanField(_("balanced"))
    differences = models.PositiveIntegerField(_("differences"))
    unsettled = models.PositiveIntegerField(
        _("unsettled"), help_text=_("The number of keys, such as orders, with owed deliveries.")
    )
    report = models.JSONField(_("report"))

    class Meta:
        verbose_name = _("reconciliation")
        verbose_name_plural = _("reconciliations")
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"{self.checked_at:%Y-%m-%d %H:%M:%S}"
