"""Failing deliveries and dead letters in groups of one cause.

Staff retry a failing group or pause its handler, and retry or discard dead groups.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import unquote

from django import forms
from django.contrib import messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from outbox import operations
from outbox.models import Delivery, Operation, Subscription
from outbox.monitor.failing import failing_view
from outbox.monitor.failures import FailureGroup, unexamined_text
from outbox.monitor.groups import Group, groups

from .actions import EFFECTS, MAX_PER_REQUEST, OPERATIONS, TITLES, NotStarted, start_in_background
from .base import ReadOnlyAdmin, ReasonForm, acting_user, may
from .links import dead_url, operation_url
from .pages import show
from .shown import read_shown, sign_shown

_FILTERS = ("handler", "exception", "place")
_ACTIONS = ("retry", "discard")
#: Only this many of the newest are grouped; an action affects all that match.
_GROUPED = 3000
#: States that an action on a group may change: of a dead group, and of a failing one.
_STATES = (Delivery.State.DEAD.value, Delivery.State.PENDING.value)


class BulkForm(ReasonForm):
    """A reason, and a rate."""

    rate = forms.FloatField(
        label=gettext_lazy("Maximum per second"),
        help_text=gettext_lazy("Live traffic uses the same workers."),
        min_value=1,
        initial=operations.RATE,
    )


class QuotedField(forms.CharField):
    """A text that the page has percent-encoded: a browser sends each line break as CR LF."""

    def to_python(self, value: Any) -> str:
        """Return the text as it is stored."""
        return unquote(super().to_python(value) or "")


class CauseForm(forms.Form):
    """One exact group, or the filter of the page."""

    handler = forms.CharField(required=False, strip=False)
    exception = forms.CharField(required=False, strip=False)
    place = forms.CharField(required=False, strip=False)
    message = QuotedField(required=False, strip=False)
    overtaken = forms.BooleanField(required=False)
    state = forms.ChoiceField(choices=[(one, one) for one in _STATES], required=False)


def dead_letters_view(page: ReadOnlyAdmin, request: HttpRequest) -> HttpResponse:
    """Show the groups, computed for each request: of the newest dead deliveries only."""
    page.require_view(request)
    every, view = groups(most=_GROUPED), failing_view()
    failing = view.groups
    both: list[Group | FailureGroup] = [*every, *failing]
    found = [group for group in every if _fits(group, request.GET)]
    return show(
        request,
        "admin/outbox/delivery/dead.html",
        of=page,
        title=_("Failures"),
        failing=[group for group in failing if _fits(group, request.GET)],
        unexamined=[
            unexamined_text(handler)
            for handler in view.unexamined
            if request.GET.get("handler", "") in ("", handler)
        ],
        may_retry=may(request, "retry"),
        pausable=pausable(failing) if may(request, "pause") else {},
        groups=found,
        total=sum(group.number for group in found),
        is_cut=sum(group.number for group in every) >= _GROUPED,
        grouped=_GROUPED,
        handlers=sorted({*(group.handler for group in both), *view.unexamined}),
        exceptions=sorted({one.exception for one in both if one.exception}),
        chosen={name: request.GET.get(name, "") for name in _FILTERS},
        may_correct=may(request, "correct"),
        possible=[(name, TITLES[name]) for name in _ACTIONS if may(request, name)],
        done=_latest_actions() if request.user.has_perm("outbox.view_operation") else (),
    )


def pausable(failing: Sequence[FailureGroup]) -> dict[str, int]:
    """Return for each handler of these groups that runs the id of one of its subscriptions."""
    names = {group.handler for group in failing}
    if not names:
        return {}
    running = Subscription.objects.filter(handler__in=names, active=True, paused_at=None)
    return dict(running.order_by("handler", "-pk").values_list("handler", "pk"))


def _latest_actions() -> QuerySet[Operation]:
    return Operation.objects.filter(action__in=_ACTIONS).order_by("-id")[:5]


def bulk_action_view(page: ReadOnlyAdmin, request: HttpRequest) -> HttpResponse:
    """Preview an action on one group or all that match, ask for a reason, and carry it out."""
    page.require_view(request)
    if request.method != "POST":  # after a login that interrupted the form
        return _refused(page, request, _("The form was not sent. Choose the group again."))
    action = request.POST.get("action", "")
    if action not in _ACTIONS or not may(request, action):
        return _refused(page, request, _("You do not have the permission for this action."))
    cause = CauseForm(request.POST)
    if not cause.is_valid():
        return _refused(page, request, _("This group does not exist. Reload the page."))
    given = cause.cleaned_data
    choice = _choice(given, is_group="group" in request.POST)
    form = BulkForm(request.POST if "reason" in request.POST else None)
    shown = read_shown(request, form, action)
    if not form.is_valid():
        return _confirm(page, request, form, action, choice)
    if shown is not None:
        choice = replace(choice, as_of=shown.at)
    reason, rate = form.cleaned_data["reason"], form.cleaned_data["rate"]
    try:
        number = _carry_out(action, choice, by=acting_user(request), reason=reason, rate=rate)
    except NotStarted as error:
        page.message_user(request, str(error), messages.ERROR)
        return HttpResponseRedirect(dead_url())
    return _done(page, request, action, number)


def _carry_out(action: str, choice: operations.Choice, *, by: str, reason: str, rate: float) -> int:
    """Carry out at most a second's worth of the rate now, more in the background; return its id."""
    most = min(MAX_PER_REQUEST, rate)
    if operations.chosen(action, choice)[: MAX_PER_REQUEST + 1].count() > most:
        return start_in_background(action, choice, by=by, reason=reason, rate=rate)
    return OPERATIONS[action](choice, by=by, reason=reason, rate=None).pk


def _done(page: ReadOnlyAdmin, request: HttpRequest, action: str, number: int) -> HttpResponse:
    operation = Operation.objects.get(pk=number)
    page.log_action(request, [operation], f"{TITLES[action]}: {operation.reason}")
    may_see = request.user.has_perm("outbox.view_operation")
    if operation.state != Operation.State.RUNNING:
        text = ngettext(
            "%d delivery was changed.", "%d deliveries were changed.", operation.touched
        )
        page.message_user(request, text % operation.touched, messages.SUCCESS)
    elif may_see:
        page.message_user(request, _("The operation has started. This page shows its progress."))
    else:
        page.message_user(request, _("Operation %d has started.") % number)
    return HttpResponseRedirect(operation_url(number) if may_see else dead_url())


def _confirm(
    page: ReadOnlyAdmin,
    request: HttpRequest,
    form: BulkForm,
    action: str,
    choice: operations.Choice,
) -> HttpResponse:
    shown = sign_shown(action)
    found = operations.preview(action, choice)
    names = (*_FILTERS, "message", "group", "overtaken", "state")
    kept = {name: request.POST[name] for name in names if name in request.POST}
    return show(
        request,
        "admin/outbox/confirm.html",
        of=page,
        title=str(TITLES[action]),
        text=EFFECTS[action],
        lines=[*(found.lines or [_("no delivery")]), *found.examples],
        form=form,
        url=request.path,
        action=action,
        kept=kept | shown,
        back=dead_url(),
    )


def _choice(given: Mapping[str, Any], *, is_group: bool) -> operations.Choice:
    """Return the choice: one exact group, or all that match the filter."""
    handler, *cause = (given[name] for name in _FILTERS)
    # An empty field of the filter means "any"; of a group it means "none".
    exception, place = cause if is_group else (part or None for part in cause)
    return operations.Choice(
        states=(given["state"] or _STATES[0],),
        handler=handler,
        exception=exception,
        place=place,
        message=given["message"] or None,
        overtaken=given["overtaken"],
    )


def _fits(group: Group | FailureGroup, given: Mapping[str, str]) -> bool:
    wanted: Sequence[tuple[str, str]] = [(name, given.get(name, "")) for name in _FILTERS]
    return all(not value or getattr(group, name) == value for name, value in wanted)


def _refused(page: ReadOnlyAdmin, request: HttpRequest, why: str) -> HttpResponse:
    page.message_user(request, why, messages.ERROR)
    return HttpResponseRedirect(dead_url())
