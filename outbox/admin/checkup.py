"""The doctor's findings without the broker: settings, database, heartbeats, outstanding work."""

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
    """A finding with the word and the colour of its severity."""

    finding: Finding

    @property
    def level(self) -> str:
        """The delivery state whose colour it has."""
        return _LEVELS[self.finding.severity][0]

    @property
    def word(self) -> str | Promise:
        """Its severity in words."""
        return _LEVELS[self.finding.severity][1]


def findings(*, using: str | None = None) -> list[Shown]:
    """Return the findings, the most severe first."""
    using = using or databases.alias()
    order = list(_LEVELS)[::-1]
    found = doctor.examine_without_broker(using=using)
    found.sort(key=lambda one: order.index(one.severity))
    return [Shown(finding) for finding in found]
