"""The timeline in the admin: for a key or correlation id, and on the page of a model's row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any

from django.contrib import admin
from django.db.models import Model, Q
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.template.loader import select_template
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from outbox import clock, drawing
from outbox.models import Delivery, Event
from outbox.monitor.conditions import TROUBLED, Condition
from outbox.monitor.explanations import Explanation, condition_of_events, explain
from outbox.monitor.sentences import Sentence, sentences_of
from outbox.monitor.timeline import (
    TimelineDelivery,
    TimelineEvent,
    timeline_of,
    timeline_of_correlation,
)
from outbox.templatetags.outbox_display import since, span

from .base import LIVE_CSS, LIVE_JS, ReadOnlyAdmin, as_uuid, may
from .links import delivery_url, event_url
from .pages import show

#: Maximum of shown events of a timeline, the newest.
MAX_EVENTS = 250


@dataclass(frozen=True)
class Timeline:
    """A timeline with its summary and drawings.

    Attributes:
        events: in the order of their emission.
        key: the key or correlation id that it was found by; the page polls with it.
        links_deliveries: whether deliveries are links. Their pages need the permission to view
            deliveries.
    """

    events: Sequence[TimelineEvent]
    key: str = ""
    links_deliveries: bool = False

    @cached_property
    def start(self) -> datetime:
        """Emission time of its first event."""
        return min(event.emitted_at for event in self.events)

    @cached_property
    def sentences(self) -> Sequence[Sentence]:
        """The timeline in sentences."""
        return sentences_of(self.events, span=span)

    @cached_property
    def sequence(self) -> SafeString:
        """The timeline as a sequence diagram (SVG)."""
        return drawing.sequence(
            self.events,
            address=self._address,
            when=lambda event: since(event.emitted_at, self.start),
        )

    @cached_property
    def waterfall(self) -> SafeString:
        """The timeline as a waterfall (SVG)."""
        return drawing.waterfall(self.events, now=clock.now(), span=span, address=self._address)

    @cached_property
    def mermaid(self) -> str:
        """The timeline as the text of a Mermaid diagram."""
        return drawing.mermaid(self.events)

    @cached_property
    def deliveries(self) -> Sequence[TimelineDelivery]:
        """All deliveries of all its events."""
        return [delivery for event in self.events for delivery in event.deliveries]

    @cached_property
    def stuck(self) -> Sequence[TimelineDelivery]:
        """Dead, failing, held and overdue deliveries, the most severe first."""
        found = [one for one in self.deliveries if one.condition in TROUBLED]
        return sorted(found, key=lambda one: TROUBLED.index(Condition(one.condition)))

    @cached_property
    def condition(self) -> Condition | None:
        """The most severe condition of its events and their effects; None without events."""
        return condition_of_events(self.events, clock.now())

    @cached_property
    def explanation(self) -> Explanation | None:
        """The sentence about its most severe trouble, or None."""
        return explain(self.events, clock.now())

    @property
    def poll_seconds(self) -> int:
        """Interval at which the page polls; a settled timeline may still grow.

        A long one is polled less often: drawing it costs some milliseconds per event.
        """
        return max(10 if self.condition == Condition.COMPLETE else 2, len(self.events) // 20)

    @property
    def is_cut(self) -> bool:
        """Whether there may be older events that are not shown."""
        return len(self.events) >= MAX_EVENTS

    @property
    def summary(self) -> str:
        """Its progress in one sentence."""
        total = len(self.deliveries)
        if self.stuck:
            text = ngettext(
                "%(condition)s: %(count)d of %(total)d deliveries needs attention.",
                "%(condition)s: %(count)d of %(total)d deliveries need attention.",
                len(self.stuck),
            )
            condition = str(Condition(self.stuck[0].condition).label).capitalize()
            return text % {"condition": condition, "count": len(self.stuck), "total": total}
        if self._owed:
            text = _("In progress: %(owed)d of %(total)d deliveries are owed.")
            return text % {"owed": self._owed, "total": total}
        if self._waiting:
            text = ngettext(
                "In progress: %d event waits for the relay.",
                "In progress: %d events wait for the relay.",
                self._waiting,
            )
            return text % self._waiting
        number = len(self.events)
        facts = {
            "events": ngettext("%d event", "%d events", number) % number,
            "deliveries": ngettext("%d delivery", "%d deliveries", total) % total,
            "span": span(self._duration),
        }
        return _("Done: %(events)s, %(deliveries)s, in %(span)s.") % facts

    @property
    def _owed(self) -> int:
        return sum(one.state not in Delivery.SETTLED for one in self.deliveries)

    @property
    def _waiting(self) -> int:
        return sum(event.fanned_out_at is None for event in self.events)

    @property
    def _duration(self) -> timedelta:
        ends = [one.settled_at for one in self.deliveries if one.settled_at]
        return max([*ends, *(event.emitted_at for event in self.events)]) - self.start

    def _address(self, row: TimelineEvent | TimelineDelivery) -> str:
        if isinstance(row, TimelineEvent):
            return event_url(row.seq)
        return delivery_url(row.id) if self.links_deliveries else ""


def timeline_for_key(key: str, *, explained: bool) -> Timeline:
    """Return the timeline of the events about `key`.

    Args:
        key: key of the events.
        explained: whether the user may view deliveries. Then each is a link, and those that are
            not done are explained, which may quote an exception.
    """
    using = Event.objects.db
    events = timeline_of(key=key, using=using, most=MAX_EVENTS, explained=explained)
    return Timeline(events, key, links_deliveries=explained)


def find_timeline(text: str, *, explained: bool) -> Timeline:
    """Return the timeline of a key, an event id or a correlation id; empty if none matches."""
    uuid = as_uuid(text)
    keys = {text, str(uuid)} if uuid else {text}
    condition = Q(key__in=keys) | Q(id=uuid) if uuid else Q(key=text)
    # Unordered: with an order some query plans scan all events.
    key = next(iter(Event.objects.filter(condition).values_list("key", flat=True)[:1]), None)
    if key is not None:
        return timeline_for_key(key, explained=explained)
    if uuid:
        events = timeline_of_correlation(
            correlation_id=uuid, using=Event.objects.db, most=MAX_EVENTS, explained=explained
        )
        return Timeline(events, text, links_deliveries=explained)
    return Timeline([], text)


def timeline_view(page: ReadOnlyAdmin, request: HttpRequest) -> HttpResponse:
    """Show the timeline of a key or a correlation id."""
    page.require_view(request)
    sought = _sought(request)
    timeline = _timeline(request, sought) if sought else None
    template = "admin/outbox/event/timeline.html"
    return show(request, template, of=page, title=_("Timeline"), sought=sought, timeline=timeline)


def timeline_part(page: ReadOnlyAdmin, request: HttpRequest) -> HttpResponse:
    """Return only the timeline."""
    page.require_view(request)
    return render(
        request, "outbox/timeline.html", {"timeline": _timeline(request, _sought(request))}
    )


def timeline_condition(page: ReadOnlyAdmin, request: HttpRequest) -> HttpResponse:
    """Return only the sentence at the top of a row's page."""
    page.require_view(request)
    context = condition_context(request, _timeline(request, _sought(request)))
    return render(request, "outbox/condition.html", context)


def condition_context(request: HttpRequest, timeline: Timeline) -> dict[str, Any]:
    """Return the context of the sentence at the top of a row's page."""
    # The button posts to the list of deliveries.
    may_retry = may(request, "retry") and may(request, "see failures")
    return {"timeline": timeline, "may_retry": may_retry}


def _sought(request: HttpRequest) -> str:
    return request.GET.get("q", "").replace("\0", "").strip()


def _timeline(request: HttpRequest, sought: str) -> Timeline:
    return find_timeline(sought, explained=may(request, "see failures"))


class TimelineMixin(admin.ModelAdmin):  # type: ignore[type-arg]  # generic in stubs only
    """Shows the timeline of the events about a row on the row's page.

    Mix it into the admin of a model whose events have its primary key as their key::

        class ParcelAdmin(TimelineMixin, admin.ModelAdmin): ...

    Users who may view events see it. Those who may view deliveries see why one is not done. An
    admin with its own `change_form_template` includes "outbox/timeline.html" with
    `timeline=outbox_timeline`.
    """

    change_form_template = "outbox/change_form_with_timeline.html"

    class Media:
        css = LIVE_CSS
        js = LIVE_JS

    def timeline_key(self, obj: Model) -> str:
        """Return the key of the events about this row; override it if it is not the pk."""
        return str(obj.pk)

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        """Add the timeline to the page."""
        obj = kwargs.get("obj")
        if obj is not None and request.user.has_perm("outbox.view_event"):
            timeline = timeline_for_key(
                self.timeline_key(obj), explained=may(request, "see failures")
            )
            context["outbox_timeline"] = timeline
            context |= condition_context(request, timeline)
        context["outbox_base_template"] = select_template(self._usual_templates())
        return super().render_change_form(request, context, *args, **kwargs)

    def _usual_templates(self) -> list[str]:
        app, model = self.opts.app_label, self.opts.model_name
        return [
            f"admin/{app}/{model}/change_form.html",
            f"admin/{app}/change_form.html",
            "admin/change_form.html",
        ]
