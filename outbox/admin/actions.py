"""Retry, discard and replay in the admin: preview, reason, and result.

A long operation runs in a thread of the web process. The thread may die with its process at any
time, for example by a deploy. The operation's page then shows that it has stopped, and has a button
to continue it from its last step.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping

from django.contrib import messages
from django.db import connections
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from outbox import databases, operations
from outbox.models import Delivery, Operation

from .base import ReadOnlyAdmin, ReasonForm, acting_user, may
from .shown import Shown, read_shown, sign_shown

logger = logging.getLogger(__name__)

_START_SECONDS = 30.0
#: Maximum for one request. For more use the command: it has a rate, and can be continued.
MAX_PER_REQUEST = 2000

OPERATIONS: Mapping[str, Callable[..., Operation]] = {
    "retry": operations.retry,
    "discard": operations.discard,
    "replay": operations.replay,
}
TITLES: Mapping[str, str | Promise] = {
    "retry": gettext_lazy("Retry now"),
    "discard": gettext_lazy("Discard"),
    "replay": gettext_lazy("Replay"),
}
EFFECTS: Mapping[str, str | Promise] = {
    "retry": gettext_lazy(
        "These deliveries become due now. A dead one gets all its attempts again."
    ),
    "discard": gettext_lazy("These deliveries are settled. Their handlers do not run."),
    "replay": gettext_lazy(
        "The handlers of these deliveries run again. Their effects may occur a second time. Check "
        "them first with `manage.py outbox replay ID --dry-run --show-writes`."
    ),
}


def run_action(
    page: ReadOnlyAdmin, request: HttpRequest, chosen: QuerySet[Delivery], *, action: str
) -> HttpResponse | None:
    """Carry out an action on the chosen deliveries, and show the result.

    It asks for a reason first, except to retry a single delivery. More than `MAX_PER_REQUEST` are
    refused. Deliveries that have changed since the question was shown are skipped.
    """
    form = ReasonForm(request.POST if "reason" in request.POST else None)
    shown = read_shown(request, form, action)
    if shown is not None:
        chosen = chosen.filter(pk__in=list(shown.states))
    states = dict(chosen.order_by().values_list("pk", "state")[: MAX_PER_REQUEST + 1])
    if len(states) > MAX_PER_REQUEST:
        _refuse(page, request, action)
        return None
    if not states:
        text = _("No selected delivery is in this list any more. Reload the list.")
        page.message_user(request, text, messages.WARNING)
        return None
    needs_reason = form.is_bound or action != "retry" or len(states) > 1
    if needs_reason and not form.is_valid():
        return _confirm(page, request, form, action, states)
    total = len(states if shown is None else shown.states)
    choice = _unchanged(states, shown)
    reason = form.cleaned_data["reason"] if form.is_bound else ""
    rows = list(_chosen(action, choice))
    if not rows:
        _show_result(page, request, action, touched=0, left=total)
        return None
    try:
        done = OPERATIONS[action](choice, by=acting_user(request), reason=reason, rate=None)
    except operations.StillRunning as error:
        page.message_user(request, str(error), messages.ERROR)
        return None
    text = _("%(action)s (operation %(number)d): %(reason)s") % {
        "action": TITLES[action],
        "number": done.pk,
        "reason": reason or "-",
    }
    page.log_action(request, rows, text)
    _show_result(page, request, action, touched=done.touched, left=total - done.touched)
    return None


def _unchanged(states: Mapping[int, str], shown: Shown | None) -> operations.Choice:
    """Return the choice of the deliveries that are as the confirmation has shown them."""
    if shown is None:
        return operations.Choice(ids=tuple(states))
    ids = tuple(pk for pk, state in states.items() if shown.states[pk] == state)
    return operations.Choice(ids=ids, as_of=shown.at)


def possible_actions(request: HttpRequest, row: Delivery) -> list[tuple[str, str | Promise]]:
    """Return the actions that the user may carry out and that would affect the delivery."""
    choice = operations.Choice(ids=(row.pk,))
    return [
        (action, title)
        for action, title in TITLES.items()
        if may(request, action) and _chosen(action, choice).exists()
    ]


def _chosen(action: str, choice: operations.Choice) -> QuerySet[Delivery]:
    return operations.chosen(action, choice).select_related("subscription")


def _confirm(
    page: ReadOnlyAdmin,
    request: HttpRequest,
    form: ReasonForm,
    action: str,
    states: Mapping[int, str],
) -> HttpResponse:
    shown = sign_shown(action, states)
    found = operations.preview(action, operations.Choice(ids=tuple(states)))
    lines = found.lines
    left = len(states) - found.total
    if left:
        lines.append(_("%d of the selected are skipped: their state does not allow it") % left)
    title, text = str(TITLES[action]), str(EFFECTS[action])
    return page.confirm(request, form, title=title, text=text, lines=lines, shown=shown)


def _refuse(page: ReadOnlyAdmin, request: HttpRequest, action: str) -> None:
    text = _(
        "More than %(most)d deliveries are selected. Use `manage.py outbox %(action)s` with the "
        "same filter."
    )
    page.message_user(request, text % {"most": MAX_PER_REQUEST, "action": action}, messages.ERROR)


def _show_result(
    page: ReadOnlyAdmin, request: HttpRequest, action: str, *, touched: int, left: int
) -> None:
    if touched:
        page.message_user(request, _touched(action, touched), messages.SUCCESS)
    if left:
        text = ngettext(
            "%d delivery was skipped: its state does not allow this action, or it has changed "
            "since the page was shown.",
            "%d deliveries were skipped: their state does not allow this action, or they have "
            "changed since the page was shown.",
            left,
        )
        page.message_user(request, text % left, messages.WARNING)


def _touched(action: str, number: int) -> str:
    if action == "discard":
        return (
            ngettext("%d delivery was discarded.", "%d deliveries were discarded.", number) % number
        )
    return ngettext("%d delivery is due now.", "%d deliveries are due now.", number) % number


class NotStarted(RuntimeError):
    """The operation did not complete its first step."""


def start_in_background(
    action: str, choice: operations.Choice, *, by: str, reason: str, rate: float | None
) -> int:
    """Start an operation; return its id after its first step.

    Raises `NotStarted` if it fails before, or if its first step takes longer than 30 seconds.
    """

    def run(report: Callable[[Operation, str], object]) -> object:
        return OPERATIONS[action](choice, by=by, reason=reason, rate=rate, report=report)

    return _started(run)


def continue_in_background(number: int, *, by: str) -> int:
    """Continue an operation whose process has stopped."""
    return _started(lambda report: operations.continue_operation(number, by=by, report=report))


def _started(run: Callable[[Callable[[Operation, str], object]], object]) -> int:
    numbers: list[int] = []
    has_started = threading.Event()

    def report(operation: Operation, _waits_for: str) -> None:
        numbers[:] = [operation.pk]
        has_started.set()

    using = databases.alias()

    def work() -> None:
        try:
            with databases.serving(using):
                run(report)
        except Exception:  # its record keeps the progress; its page shows that it is silent
            name = numbers[0] if numbers else _("(not stored)")
            logger.exception(
                "Operation %s has stopped. Fix the cause, then continue it on its page.", name
            )
        finally:
            has_started.set()
            connections.close_all()

    threading.Thread(target=work, name="outbox-operation", daemon=True).start()
    has_started.wait(_START_SECONDS)
    if numbers:
        return numbers[0]
    if not has_started.is_set():
        text = _(
            "The first step of the operation takes longer than %d seconds. It continues in the "
            "background. Look at the page Operations before you start it again."
        )
        raise NotStarted(text % _START_SECONDS)
    raise NotStarted(_("The operation did not start. The web process has logged the cause."))
