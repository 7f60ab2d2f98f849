"""The page of the configured sources: condition, lag, counts, settings and events of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from django.core.exceptions import ImproperlyConfigured
from django.http import HttpRequest, HttpResponse
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from outbox.monitor.sources import Condition, SourceStatus, dead_messages, source_statuses
from outbox.sources.configuration import SourceConfig, configured
from outbox.sources.events import declared_by
from outbox.sources.state import OUTCOMES
from outbox.sources.unreadable import HANDLER

from .base import ReadOnlyAdmin, may
from .links import dead_url
from .pages import show

_TEMPLATE = "admin/outbox/event/sources.html"
#: The delivery state whose colour a condition has, and the word for it.
_CONDITIONS: Mapping[Condition, tuple[str, str | Promise]] = {
    "absent": ("dead", gettext_lazy("not received")),
    "elsewhere": ("discarded", gettext_lazy("in another database")),
    "failing": ("dead", gettext_lazy("failing")),
    "paused": ("parked", gettext_lazy("paused")),
    "running": ("done", gettext_lazy("running")),
}
_COLUMNS: Mapping[str, str | Promise] = {
    "stored": gettext_lazy("Stored"),
    "duplicates": gettext_lazy("Duplicates"),
    "unreadable": gettext_lazy("Unreadable"),
    "unknown": gettext_lazy("Unknown type"),
    "dropped": gettext_lazy("Dropped"),
    "settlements": gettext_lazy("Settlements"),
    "ignored": gettext_lazy("Ignored settlements"),
}


@dataclass(frozen=True, kw_only=True)
class SourceRow:
    """One source.

    Attributes:
        config: its settings.
        status: its condition.
        dead: number of its messages that are dead letters.
        events: name and CloudEvents type of the events that its messages become.
    """

    config: SourceConfig
    status: SourceStatus
    dead: int
    events: Sequence[tuple[str, str]]

    @property
    def badge(self) -> tuple[str, str | Promise]:
        """The colour of its condition, and the word."""
        return _CONDITIONS[self.status.condition]

    @property
    def counts(self) -> list[int]:
        """Its numbers of messages, in the order of the columns."""
        return [self.status.counts[name] for name in OUTCOMES]

    @property
    def labelled_counts(self) -> list[tuple[str | Promise, int]]:
        """Its numbers of messages, each with the title of its column."""
        return [(_COLUMNS[name], self.status.counts[name]) for name in OUTCOMES]


def sources_view(page: ReadOnlyAdmin, request: HttpRequest) -> HttpResponse:
    """Show the sources, or why the setting is invalid."""
    page.require_view(request)
    problem, rows = "", list[SourceRow]()
    try:
        rows = _rows()
    except ImproperlyConfigured as error:
        problem = str(error)
    return show(
        request,
        _TEMPLATE,
        of=page,
        title=_("Sources"),
        problem=problem,
        sources=rows,
        columns=[_COLUMNS[name] for name in OUTCOMES],
        dead_url=dead_url(handler=HANDLER) if may(request, "see failures") else "",
        may_see_failures=may(request, "see failures"),
    )


def _rows() -> list[SourceRow]:
    configs = configured()
    if not configs:
        return []
    dead = dead_messages()
    return [
        SourceRow(
            config=configs[status.name],
            status=status,
            dead=dead[status.name],
            events=sorted((one.event_name, one.event_type) for one in declared_by(status.name)),
        )
        for status in source_statuses(has_others=True)
    ]
