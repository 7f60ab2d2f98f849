"""Shared parts of the outbox's admin pages: read-only rows, bounded counts, permissions, log."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar
from uuid import UUID

from django import forms
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.admin.options import ShowFacets
from django.contrib.admin.views.main import PAGE_VAR, ChangeList
from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.db.models import Model, QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, reverse
from django.utils.functional import Promise, cached_property
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.translation import gettext_lazy as _

from outbox import databases

from .in_database import in_database
from .links import shown_to
from .strict_lookups import StrictAdminMixin, StrictChangeList

#: Permissions of staff actions, in addition to the view permission.
PERMISSIONS: Mapping[str, str] = {
    "retry": "outbox.retry_delivery",
    "discard": "outbox.discard_delivery",
    "replay": "outbox.replay_delivery",
    "pause": "outbox.pause_subscription",
    "correct": "outbox.correct_event",
    "see sensitive fields": "outbox.view_sensitive",
    "see failures": "outbox.view_delivery",
    "see events": "outbox.view_event",
}

LIVE_CSS = {
    "all": [
        "outbox/header.css",
        "outbox/outbox.css",
        "outbox/layout.css",
        "outbox/handlers.css",
        "outbox/drawing.css",
    ]
}
#: htmx is vendored, as its page https://htmx.org/docs/#installing recommends.
LIVE_JS = ["outbox/vendor/htmx-2.0.11.min.js", "outbox/monitor.js"]

_PAGES_AHEAD = 10
_LAST_PAGE = 1000


def may(request: HttpRequest, action: str) -> bool:
    """Return whether the user may carry out an action, a key of `PERMISSIONS`."""
    return request.user.has_perm(PERMISSIONS[action])


def with_tenant(fieldsets: Any, tenant: str | None, *, field: str = "tenant_shown") -> Any:
    """Return a page's groups of fields; with a tenant, its field is the last of the first group."""
    if not tenant:
        return fieldsets
    (title, first), *others = fieldsets
    return [(title, {**first, "fields": [*first["fields"], field]}), *others]


def acting_user(request: HttpRequest) -> str:
    """Return the user's name in events and operations: "user:7"."""
    return f"user:{request.user.pk}"


def as_uuid(text: str) -> UUID | None:
    """Parse a UUID in any spelling; return None if the text is none."""
    try:
        return UUID(text)
    except ValueError:
        return None


class ReasonForm(forms.Form):
    """A required reason."""

    reason = forms.CharField(
        label=_("Reason"),
        help_text=_("Stored with the action. Staff can read it later."),
        max_length=500,
        widget=forms.Textarea(attrs={"rows": 3, "autofocus": True}),
    )


def _of_this_database(entries: QuerySet[LogEntry]) -> QuerySet[LogEntry]:
    """Leave out entries that name another database, whose row has the same id.

    An entry without a name, from before there were several databases, is kept.
    """
    mine = databases.primary_of(databases.alias())
    for using in set(databases.listed()) - {mine}:
        # The word before the name is in the language of the entry's user.
        entries = entries.exclude(change_message__regex=rf"^\S+ {re.escape(using)}: ")
    return entries


class HorizonPaginator(Paginator):  # type: ignore[type-arg]  # generic in stubs only
    """A paginator that counts only a few pages beyond the shown one.

    Attributes:
        is_cut: whether there are more rows than `count`.
    """

    def __init__(self, *args: Any, page: int, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._horizon = (min(max(page, 1), _LAST_PAGE) + _PAGES_AHEAD) * self.per_page

    @cached_property
    def count(self) -> int:
        """The number of rows up to the horizon."""
        return min(self._counted, self._horizon)

    @property
    def is_cut(self) -> bool:
        return self._counted > self._horizon

    @cached_property
    def _counted(self) -> int:
        rows = self.object_list[: self._horizon + 1]
        return rows.count() if isinstance(rows, QuerySet) else len(rows)


class BoundedChangeList(StrictChangeList):
    """A page of a list that shows no row count unless all rows were counted."""

    def get_results(self, request: HttpRequest) -> None:
        """Show the number of results only for a search or filter whose rows were all counted."""
        super().get_results(request)
        is_narrowed = self.query or self.has_active_filters
        if self.paginator.is_cut or not is_narrowed:
            self.full_result_count = self.result_count


class ReadOnlyAdmin(StrictAdminMixin):
    """Rows that only the outbox writes. No user adds, changes or deletes one, not even a superuser.

    Attributes:
        empty_text: advice for an empty table.
        no_match_text: advice for a filter or search without results.
        shows_getting_started: whether the page of an empty table includes the template
            `outbox/getting_started.html`.
    """

    empty_text: ClassVar[str | Promise] = ""
    no_match_text: ClassVar[str | Promise] = _("No row matches. Remove a filter.")
    shows_getting_started: ClassVar[bool] = False

    # Sorting by any other column would read the whole table.
    sortable_by: ClassVar[tuple[str, ...]] = ()
    show_full_result_count = False
    show_facets = ShowFacets.NEVER
    list_max_show_all = 0

    class Media:
        css = LIVE_CSS
        js = LIVE_JS

    @property
    def urls(self) -> list[URLPattern]:
        """The pages, each in the database that its request names."""
        found = self.get_urls()
        for one in found:
            if isinstance(one, URLPattern):
                one.callback = in_database(one.callback)
        return found

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Return False."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Return False."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Return False."""
        return False

    def require_view(self, request: HttpRequest) -> None:
        """Raise `PermissionDenied` if the user may not view these rows."""
        if not self.has_view_permission(request):
            raise PermissionDenied

    def get_object(
        self, request: HttpRequest, object_id: str, from_field: str | None = None
    ) -> Any:
        """Raise `Http404` for a row that the replica lacks: `in_database` reads the primary."""
        found = super().get_object(request, object_id, from_field)
        replica: str = getattr(request, "outbox_replica", "")
        if found is None and replica:
            raise Http404
        return found and shown_to(request.user, found)

    def get_changelist_instance(self, request: HttpRequest) -> ChangeList:
        """Return the list, whose rows know who views them."""
        found = super().get_changelist_instance(request)
        for row in found.result_list:
            shown_to(request.user, row)
        return found

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        """Return the list that does not count the whole table."""
        return BoundedChangeList

    def get_paginator(
        self, request: HttpRequest, queryset: Any, per_page: int, *args: Any, **kwargs: Any
    ) -> HorizonPaginator:
        """Return the paginator that does not count the whole table. It also serves histories."""
        if getattr(queryset, "model", None) is LogEntry:
            queryset = _of_this_database(queryset)
        try:
            page = int(request.GET.get(PAGE_VAR, 1))
        except ValueError:
            page = 1
        return HorizonPaginator(queryset, per_page, *args, page=page, **kwargs)

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Show the list, or advice if it is empty."""
        context = {
            "empty_text": self.empty_text,
            "no_match_text": self.no_match_text,
            "shows_getting_started": self.shows_getting_started,
            **(extra_context or {}),
        }
        return super().changelist_view(request, context)

    def response_action(
        self, request: HttpRequest, queryset: QuerySet[Any], *args: Any, **kwargs: Any
    ) -> HttpResponse | None:
        """Return to the page where the action was started: the row's own, or `to_page`."""
        response = super().response_action(request, queryset, *args, **kwargs)
        chosen = request.POST.getlist(ACTION_CHECKBOX_NAME)
        is_done = response is None or isinstance(response, HttpResponseRedirect)
        is_one = len(chosen) == 1 and self.are_keys(chosen)
        if is_done and is_one and "from_page" in request.POST:
            page = f"admin:{self.opts.app_label}_{self.opts.model_name}_change"
            return HttpResponseRedirect(reverse(page, args=chosen))
        back = request.POST.get("to_page", "")
        if is_done and url_has_allowed_host_and_scheme(back, allowed_hosts=None):
            return HttpResponseRedirect(back)
        return response

    def confirm(
        self,
        request: HttpRequest,
        form: ReasonForm,
        *,
        title: str,
        text: str,
        lines: Sequence[str],
        shown: Mapping[str, str] | None = None,
    ) -> HttpResponse:
        """Show the effect of an action, and the form for its reason, which posts to that action.

        `shown` is the hidden field of `sign_shown`.
        """
        context = {
            **self.admin_site.each_context(request),
            "title": title,
            "opts": self.opts,
            "media": self.media,
            "form": form,
            "text": text,
            "lines": lines,
            "url": request.get_full_path(),
            "action": request.POST["action"],
            "chosen": request.POST.getlist(ACTION_CHECKBOX_NAME),
            "checkbox": ACTION_CHECKBOX_NAME,
            "kept": {
                name: request.POST[name]
                for name in ("select_across", "from_page", "to_page", "to_handlers")
                if name in request.POST
            }
            | dict(shown or {}),
        }
        return TemplateResponse(request, "admin/outbox/confirm.html", context)

    def log_action(self, request: HttpRequest, rows: Iterable[Model], text: str) -> None:
        """Log the user's action on these rows in the admin's log, with one of several databases."""
        if len(databases.listed()) > 1:
            text = _("Database %(using)s: %(text)s") % {"using": databases.alias(), "text": text}
        LogEntry.objects.log_actions(request.user.pk, list(rows), CHANGE, change_message=text)  # type: ignore[arg-type]  # it takes any iterable
