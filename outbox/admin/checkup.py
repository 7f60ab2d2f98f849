"""What the doctor can see without the broker: settings, database, signs of life, debts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from outbox import databases, doctor
from outbox.doctor import Finding

_LEVELS: Mapping[str, tuple[str, str | Promise]] = {
    doctor.OK: ("done", _("good")),
    doctor.WARNING: ("parked", _("warning")),
    doctor.ERROR: ("dead", _("error")),
}


@dataclass(frozen=True)
class Shown:
    """A finding with the word and the colour for how bad it is."""

    finding: Finding

    @property
    def level(self) -> str:
        """The state whose colour it has."""
        return _LEVELS[self.finding.severity][0]

    @property
    def word(self) -> str | Promise:
        """How bad it is."""
        return _LEVELS[self.finding.severity][1]


def findings(*, using: str | None = None) -> list[Shown]:
    """Examine, and return the worst first."""
    using = using or databases.alias()
    order = list(_LEVELS)[::-1]
    found = doctor.examine_here(using=using)
    found.sort(key=lambda one: order.index(one.severity))
    return [Shown(finding) for finding in found]
