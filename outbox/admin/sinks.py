"""The page of the configured sinks, with the exact message of an event."""

from __future__ import annotations

from dataclasses import dataclass

from django.core.exceptions import ImproperlyConfigured, PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _

from outbox.models import Event
from outbox.monitor.previews import NoEvent, Preview, preview, sink_states
from outbox.privacy.omission import UndeclaredField
from outbox.receipt import PermanentFailure
from outbox.sinks.configuration import SinkConfig, configured

from .base import ReadOnlyAdmin, as_uuid, may
from .pages import show

_TEMPLATE = "admin/outbox/event/sinks.html"


@dataclass(frozen=True, kw_only=True)
class _Chosen:
    """The sink to preview.

    Attributes:
        preview: the message, or None: it is hidden, or there is none.
        problem: why there is no message.
        event: the id that the user has entered.
    """

    config: SinkConfig
    preview: Preview | None = None
    problem: str = ""
    event: str = ""


def sinks_view(page: ReadOnlyAdmin, request: HttpRequest) -> HttpResponse:
    """List the sinks; with `?name=`, show the message of its newest event or of `&event=`.

    A message with sensitive fields is shown only by `sensitive_sink_view`.
    """
    page.require_view(request)
    return _page(
        page, request, name=request.GET.get("name", ""), event=request.GET.get("event", "")
    )


def sensitive_sink_view(page: ReadOnlyAdmin, request: HttpRequest) -> HttpResponse:
    """Show the message of a sink that sends sensitive fields, after logging the user.

    Only by POST, as a link must not cause it.
    """
    page.require_view(request)
    if not may(request, "see sensitive fields"):
        raise PermissionDenied
    name, event = request.POST.get("name", ""), request.POST.get("event", "")
    if not name:
        return redirect("admin:outbox_event_sinks")
    return _page(page, request, name=name, event=event, sensitive=True)


def _page(
    page: ReadOnlyAdmin, request: HttpRequest, *, name: str, event: str, sensitive: bool = False
) -> HttpResponse:
    try:
        states = sink_states()
        config = configured().get(name)
    except ImproperlyConfigured as error:
        return show(request, _TEMPLATE, of=page, title=_("Sinks"), problem=str(error))
    if name and config is None:
        raise Http404(_("No sink has this name."))
    chosen = None
    if config is not None:
        is_hidden = config.sensitive and not sensitive
        chosen = _Chosen(config=config, event=event) if is_hidden else _chosen(config, event)
        if chosen.preview is not None and config.sensitive and not chosen.preview.is_example:
            rows = Event.objects.filter(id=chosen.preview.message.event.id)
            text = _('Viewed the message of the sink "%s", with sensitive fields.')
            page.log_action(request, rows, text % name)
    return show(
        request,
        _TEMPLATE,
        of=page,
        title=_("Sinks"),
        sinks=states,
        chosen=chosen,
        may_unmask=may(request, "see sensitive fields"),
    )


def _chosen(config: SinkConfig, event: str) -> _Chosen:
    event_id = as_uuid(event) if event else None
    if event and event_id is None:
        return _Chosen(config=config, event=event, problem=_("Enter the id of an event, a UUID."))
    try:
        return _Chosen(config=config, event=event, preview=preview(config, event_id))
    except (NoEvent, PermanentFailure, UndeclaredField, ImproperlyConfigured) as error:
        return _Chosen(config=config, event=event, problem=str(error))
