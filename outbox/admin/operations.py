"""Operations of staff on the outbox: the list, their progress, and continuing a stopped one."""

from __future__ import annotations

from functools import partial
from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import Model
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import URLPattern, path
from django.utils.decorators import method_decorator
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import conditional_page, require_POST

from outbox import clock, operations
from outbox.models import Operation
from outbox.operations import described
from outbox.templatetags.outbox_display import NOTHING, actor, timestamp

from .actions import NotStarted, continue_in_background
from .base import PERMISSIONS, ReadOnlyAdmin, acting_user, may
from .links import operation_url, viewer_of


@admin.register(Operation)
class OperationAdmin(ReadOnlyAdmin):
    """All operations with their choice, actor, reason and progress."""

    list_display = ["number", "action", "by_shown", "touched", "state", "choice_shown", "started"]
    list_filter = ["action", "state"]
    list_per_page = 50
    ordering = ["-id"]
    actions = None
    empty_text = gettext_lazy(
        "No operation yet. Start one on the page of dead letters, deliveries or handlers, or with "
        "`manage.py outbox`."
    )
    fieldsets = [
        (None, {"fields": ["action", "choice_shown", "reason", "by_shown"]}),
        (gettext_lazy("Times"), {"fields": ["started", "finished"]}),
    ]

    def get_urls(self) -> list[URLPattern]:
        """Add the live part of an operation's page, and the actions on a running one."""
        view, name = self.admin_site.admin_view, "outbox_operation"
        go_on = view(partial(self.continue_view, go_on=True))
        give_up = view(partial(self.continue_view, go_on=False))
        return [
            path("<int:pk>/part/", view(self.part), name=f"{name}_part"),
            path("<int:pk>/go-on/", go_on, name=f"{name}_go_on"),
            path("<int:pk>/give-up/", give_up, name=f"{name}_give_up"),
            *super().get_urls(),
        ]

    @method_decorator(conditional_page)
    def part(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Return only the progress of an operation, or 304 if it is unchanged."""
        self.require_view(request)
        return render(request, "outbox/operation.html", self._progress(request, _found(pk)))

    @method_decorator(require_POST)
    def continue_view(self, request: HttpRequest, pk: int, *, go_on: bool) -> HttpResponse:
        """Continue an operation whose process has stopped, or give it up."""
        self.require_view(request)
        operation = _found(pk)
        if not _may_continue(request, operation):
            raise PermissionDenied
        try:
            if go_on:
                continue_in_background(pk, by=acting_user(request))
            else:
                operations.give_up(pk, by=acting_user(request))
        except (operations.NotRunning, NotStarted) as error:
            self.message_user(request, str(error), messages.ERROR)
        else:
            self.log_action(request, [operation], _("Continued.") if go_on else _("Given up."))
        return HttpResponseRedirect(operation_url(pk))

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        """Add its progress."""
        context.update(self._progress(request, kwargs["obj"]))
        return super().render_change_form(request, context, *args, **kwargs)

    def _progress(self, request: HttpRequest, operation: Operation) -> dict[str, Any]:
        is_running = operation.state == Operation.State.RUNNING
        silence = clock.now() - operation.seen_at
        return {
            "operation": operation,
            "is_running": is_running,
            "is_silent": is_running and silence > operations.ABANDONED_AFTER,
            "next_step": operations.next_step(operation),
            "may_continue": is_running and _may_continue(request, operation),
        }

    @admin.display(description=gettext_lazy("number"), ordering="id")
    def number(self, row: Operation) -> str:
        """Show the id as `manage.py outbox continue` takes it, without thousands separators."""
        return str(row.pk)

    @admin.display(description=gettext_lazy("by"))
    def by_shown(self, row: Operation) -> str:
        """Show the user or command that started it."""
        return actor(row.by, viewer_of(row))

    @admin.display(description=gettext_lazy("selection"))
    def choice_shown(self, row: Operation) -> str:
        """Describe the choice of deliveries or events."""
        return described(row.choice)

    @admin.display(description=gettext_lazy("started at"))
    def started(self, row: Operation) -> str:
        """Show when it started."""
        return timestamp(row.started_at)

    @admin.display(description=gettext_lazy("finished at"))
    def finished(self, row: Operation) -> str:
        """Show when it finished."""
        return timestamp(row.finished_at) or NOTHING


def _found(pk: int) -> Operation:
    operation: Model | None = Operation.objects.filter(pk=pk).first()
    if not isinstance(operation, Operation):
        raise Http404
    return operation


def _may_continue(request: HttpRequest, operation: Operation) -> bool:
    """Return whether the user may carry out such an operation; others need the command."""
    return operation.action in PERMISSIONS and may(request, operation.action)
