"""Correct the payload of a dead delivery's event: the form, and its result."""

from __future__ import annotations

from django import forms
from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from outbox import operations
from outbox.models import Delivery
from outbox.privacy.sensitive import masked

from .base import ReadOnlyAdmin, ReasonForm, doer, may
from .json_object import JSONObjectField, payload_text
from .links import delivery_url, event_url
from .pages import show


class CorrectionForm(ReasonForm):
    """The whole payload, and a reason."""

    payload = JSONObjectField(
        label=gettext_lazy("Payload"),
        help_text=gettext_lazy("JSON. What is masked (***) keeps its value if you leave it so."),
        widget=forms.Textarea(attrs={"rows": 16, "cols": 80, "spellcheck": "false"}),
    )
    field_order = ("payload", "reason")


def correct_view(page: ReadOnlyAdmin, request: HttpRequest, pk: int) -> HttpResponse:
    """Show the payload; store a corrected one, and redirect to the new event."""
    page.require_view(request)
    if not may(request, "correct"):
        raise PermissionDenied
    row = _dead(pk)
    shown = payload_text(masked(row.event))
    form = CorrectionForm(request.POST or None, initial={"payload": shown})
    if form.is_valid():
        try:
            return _correct(page, request, row, form)
        except operations.CannotCorrect as error:
            form.add_error("payload", str(error))
    names = {"event": row.event.name, "handler": row.subscription.handler}
    text = _(
        "%(event)s would be told to %(handler)s anew, as an event of its own that points to the "
        "old one; nobody else hears it. The dead delivery would be discarded."
    )
    return show(
        request,
        "admin/outbox/ask.html",
        of=page,
        title=_("Correct and retry"),
        text=text % names,
        lines=[row.note],
        form=form,
        url=request.path,
        back=delivery_url(pk),
    )


def _correct(
    page: ReadOnlyAdmin, request: HttpRequest, row: Delivery, form: CorrectionForm
) -> HttpResponse:
    payload, reason = form.cleaned_data["payload"], form.cleaned_data["reason"]
    event = operations.correct(row.pk, payload, by=doer(request), reason=reason)
    page.remember(
        request, [row], _("Corrected by event %(id)s: %(why)s") % {"id": event.id, "why": reason}
    )
    page.message_user(request, _("The corrected event is stored and due."), messages.SUCCESS)
    return HttpResponseRedirect(event_url(event.seq))


def _dead(pk: int) -> Delivery:
    rows = Delivery.objects.filter(pk=pk, state=Delivery.State.DEAD)
    row = rows.select_related("event", "subscription").first()
    if row is None:
        raise Http404
    return row
