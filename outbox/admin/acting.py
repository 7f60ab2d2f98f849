"""Retry, discard and replay in the admin: preview, reason, and result."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from django.contrib import messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from outbox import operations
from outbox.models import Delivery, Operation

from .base import ReadOnlyAdmin, ReasonForm, doer, may

#: Maximum for one request. For more use the command: it has a rate, and can be continued.
MOST = 2000

CARRY_OUT: Mapping[str, Callable[..., Operation]] = {
    "retry": operations.retry,
    "discard": operations.discard,
    "replay": operations.replay,
}
TITLES: Mapping[str, str | Promise] = {
    "retry": gettext_lazy("Try again now"),
    "discard": gettext_lazy("Discard"),
    "replay": gettext_lazy("Replay"),
}
TEXTS: Mapping[str, str | Promise] = {
    "retry": gettext_lazy("These would be due now. A dead one gets all its attempts again."),
    "discard": gettext_lazy("These would be settled without being done: no handler sees them."),
    "replay": gettext_lazy(
        "These would be handled once more, on purpose. What a handler does a second time is its "
        "own matter: look first with `manage.py outbox replay ID --dry-run --show-writes`."
    ),
}


def act(
    page: ReadOnlyAdmin, request: HttpRequest, chosen: QuerySet[Delivery], *, action: str
) -> HttpResponse | None:
    """Carry out an action on the chosen deliveries, and show the result.

    It asks for a reason first, except to retry a single delivery. More than `MOST` are refused.
    """
    ids = tuple(chosen.order_by().values_list("pk", flat=True)[: MOST + 1])
    if len(ids) > MOST:
        _refuse(page, request, action)
        return None
    if not ids:
        text = _("None of the chosen is in this list any more.")
        page.message_user(request, text, messages.WARNING)
        return None
    choice = operations.Choice(ids=ids)
    form = ReasonForm(request.POST if "reason" in request.POST else None)
    needs_reason = form.is_bound or action != "retry" or len(ids) > 1
    if needs_reason and not form.is_valid():
        return _ask(page, request, form, action, ids)
    reason = form.cleaned_data["reason"] if form.is_bound else ""
    rows = list(_chosen(action, choice))
    try:
        done = CARRY_OUT[action](choice, by=doer(request), reason=reason, rate=None)
    except operations.StillRunning as error:
        page.message_user(request, str(error), messages.ERROR)
        return None
    text = _("%(action)s (operation %(number)d): %(reason)s") % {
        "action": TITLES[action],
        "number": done.pk,
        "reason": reason or "-",
    }
    page.remember(request, rows, text)
    _show_result(page, request, action, touched=done.touched, left=len(ids) - done.touched)
    return None


def possible(request: HttpRequest, row: Delivery) -> list[tuple[str, str | Promise]]:
    """Return the actions that the user may carry out and that would affect the delivery."""
    choice = operations.Choice(ids=(row.pk,))
    names = {"retry": "try_again", "discard": "discard", "replay": "replay"}
    return [
        (name, TITLES[action])
        for action, name in names.items()
        if may(request, action) and _chosen(action, choice).exists()
    ]


def _chosen(action: str, choice: operations.Choice) -> QuerySet[Delivery]:
    return operations.chosen(action, choice).select_related("subscription")


def _ask(
    page: ReadOnlyAdmin,
    request: HttpRequest,
    form: ReasonForm,
    action: str,
    ids: Collection[int],
) -> HttpResponse:
    found = operations.preview(action, operations.Choice(ids=tuple(ids)))
    lines = found.lines
    left = len(ids) - found.total
    if left:
        lines.append(_("%d of the chosen would be left alone") % left)
    title, text = str(TITLES[action]), str(TEXTS[action])
    return page.ask(request, form, title=title, text=text, lines=lines)


def _refuse(page: ReadOnlyAdmin, request: HttpRequest, action: str) -> None:
    text = _("More than %(most)d: use `manage.py outbox %(action)s` with the same filter.")
    page.message_user(request, text % {"most": MOST, "action": action}, messages.ERROR)


def _show_result(
    page: ReadOnlyAdmin, request: HttpRequest, action: str, *, touched: int, left: int
) -> None:
    if touched:
        page.message_user(request, _touched(action, touched), messages.SUCCESS)
    if left:
        text = ngettext(
            "%d delivery was left alone: this action is not for its state.",
            "%d deliveries were left alone: this action is not for their state.",
            left,
        )
        page.message_user(request, text % left, messages.WARNING)


def _touched(action: str, number: int) -> str:
    if action == "discard":
        return (
            ngettext("%d delivery is discarded.", "%d deliveries are discarded.", number) % number
        )
    return ngettext("%d delivery is due now.", "%d deliveries are due now.", number) % number
