"""Correct a dead delivery: the result is a new event for its handler only.

The payload of any event is corrected as JSON. A received message that could not be read has a form
of its own, with the message's body and headers.
"""

from __future__ import annotations

from base64 import b64decode
from typing import Any

from django import forms
from django.contrib import messages
from django.core.exceptions import PermissionDenied, ValidationError
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.utils.cache import add_never_cache_headers
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from outbox import operations
from outbox.models import Delivery, Event
from outbox.privacy.sensitive import masked
from outbox.sources.unreadable import STORED_MESSAGES

from .base import ReadOnlyAdmin, ReasonForm, acting_user, may
from .json_object import JSONObjectField, payload_text
from .links import delivery_url, event_url
from .pages import show


class CorrectionForm(ReasonForm):
    """The whole payload, and a reason."""

    payload = JSONObjectField(
        label=gettext_lazy("Payload"),
        help_text=gettext_lazy("A JSON object. A masked value (***) that you leave is kept."),
        widget=forms.Textarea(attrs={"rows": 16, "cols": 80, "spellcheck": "false"}),
    )
    field_order = ("payload", "reason")

    def correct(self, row: Delivery, *, by: str) -> Event:
        """Store the corrected event."""
        return operations.correct(
            row.pk, self.cleaned_data["payload"], by=by, reason=self.cleaned_data["reason"]
        )


class MessageForm(ReasonForm):
    """The body and the headers of a received message, and a reason."""

    body = forms.CharField(
        label=gettext_lazy("Body"),
        help_text=gettext_lazy("The whole message. If you leave it empty, the stored one is kept."),
        required=False,
        strip=False,
        widget=forms.Textarea(attrs={"rows": 16, "cols": 80, "spellcheck": "false"}),
    )
    is_base64 = forms.BooleanField(
        label=gettext_lazy("The body is Base64"),
        help_text=gettext_lazy("For a message that is no text in UTF-8."),
        required=False,
    )
    headers = JSONObjectField(
        label=gettext_lazy("Headers"),
        help_text=gettext_lazy(
            "A JSON object of texts. If you leave it empty, the stored ones are kept."
        ),
        required=False,
        widget=forms.Textarea(attrs={"rows": 4, "cols": 80, "spellcheck": "false"}),
    )
    field_order = ("body", "is_base64", "headers", "reason")

    def clean(self) -> dict[str, Any]:
        """Decode the body."""
        cleaned = super().clean() or {}
        text = cleaned.get("body") or ""
        cleaned["bytes"] = _as_sent(text)
        if cleaned.get("is_base64"):
            try:
                cleaned["bytes"] = b64decode("".join(text.split()), validate=True)
            except ValueError:
                self.add_error("body", ValidationError(_("The body is no valid Base64.")))
        return cleaned

    def correct(self, row: Delivery, *, by: str) -> Event:
        """Store the corrected message."""
        given, stored = self.cleaned_data, row.event.payload
        # With other line breaks, the stored body would have another length and signature.
        is_text = stored["encoding"] == "text" and not given["is_base64"]
        is_unchanged = is_text and given["bytes"] == _as_sent(stored["body"])
        return operations.correct_message(
            row.pk,
            body=None if is_unchanged else given["bytes"] or None,
            headers=given["headers"] or None,
            by=by,
            reason=given["reason"],
        )


def _as_sent(text: str) -> bytes:
    """Return a text of a form with LF: a browser sends each line break of it as CR LF."""
    return text.replace("\r\n", "\n").replace("\r", "\n").encode()


def correct_view(page: ReadOnlyAdmin, request: HttpRequest, pk: int) -> HttpResponse:
    """Show the payload or the message; store a corrected one, and redirect to the new event."""
    page.require_view(request)
    if not may(request, "correct"):
        raise PermissionDenied
    row = _found(pk, is_shown_first=request.method != "POST")
    if row.event.name in STORED_MESSAGES:
        return _message_page(page, request, row)
    shown = payload_text(masked(row.event))
    form = CorrectionForm(request.POST or None, initial={"payload": shown})
    names = {"event": row.event.name, "handler": row.subscription.handler}
    text = _(
        "A new event %(event)s is stored with this payload. Only the handler %(handler)s receives "
        "it. It refers to the original event. The dead delivery is discarded."
    )
    return _corrected(page, request, row, form, "payload") or show(
        request,
        "admin/outbox/confirm.html",
        of=page,
        title=_("Correct and retry"),
        text=text % names,
        lines=[row.note],
        form=form,
        url=request.path,
        back=delivery_url(pk),
    )


def _message_page(page: ReadOnlyAdmin, request: HttpRequest, row: Delivery) -> HttpResponse:
    """Show the form of a message. `show` in a POST request fills it, after logging the user."""
    may_unmask = may(request, "see sensitive fields")
    is_filled = "show" in request.POST
    if is_filled:
        if not may_unmask:
            raise PermissionDenied
        page.log_action(request, [row.event], _("Viewed the sensitive fields."))
        form = MessageForm(initial=_as_stored(row.event))
    else:
        form = MessageForm(request.POST or None)
    payload = row.event.payload
    response = _corrected(page, request, row, form, "body") or show(
        request,
        "admin/outbox/delivery/correct_message.html",
        of=page,
        title=_("Correct the message"),
        text=_(
            "The message is read before it is stored. If it can be read, its event is stored, and "
            "the dead delivery is discarded."
        ),
        lines=[row.note, _("Position: %s") % payload["position"]],
        form=form,
        url=request.path,
        back=delivery_url(row.pk),
        may_fill=may_unmask and not is_filled,
        is_omitted=payload["encoding"] == "omitted",
        size=payload["size"],
    )
    add_never_cache_headers(response)
    return response


def _as_stored(event: Event) -> dict[str, Any]:
    payload = event.payload
    return {
        "body": payload["body"],
        "is_base64": payload["encoding"] == "base64",
        "headers": payload_text(payload["headers"]),
    }


def _corrected(
    page: ReadOnlyAdmin,
    request: HttpRequest,
    row: Delivery,
    form: CorrectionForm | MessageForm,
    field: str,
) -> HttpResponse | None:
    """Store what a valid form has, and redirect to the new event; None: show the form.

    A user who may not view events is led back to the delivery.
    """
    if not form.is_valid():
        return None
    try:
        event = form.correct(row, by=acting_user(request))
    except operations.CannotCorrect as error:
        form.add_error(field, str(error))
        return None
    why = form.cleaned_data["reason"]
    page.log_action(
        request, [row], _("Corrected by event %(id)s: %(why)s") % {"id": event.id, "why": why}
    )
    page.message_user(request, _("The corrected event is stored and due."), messages.SUCCESS)
    may_see = may(request, "see events")
    return HttpResponseRedirect(event_url(event.seq) if may_see else delivery_url(row.pk))


def _found(pk: int, *, is_shown_first: bool) -> Delivery:
    """Return the delivery. Of one that left its state meanwhile, the form keeps what was typed."""
    row = Delivery.objects.filter(pk=pk).select_related("event", "subscription").first()
    if row is None or (is_shown_first and row.state != Delivery.State.DEAD):
        raise Http404
    return row
