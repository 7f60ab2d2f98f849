"""Refuse lookups that no filter declares, and values that no column can store."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Any

from django.contrib import messages
from django.contrib.admin import ModelAdmin
from django.contrib.admin.exceptions import DisallowedModelAdminLookup
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.views.main import ChangeList
from django.core.exceptions import BadRequest, ValidationError
from django.db import DataError
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.utils.translation import gettext as _

#: Maximum characters of a search. SQLite refuses longer patterns and deeper conditions.
LONGEST_SEARCH = 200
#: Lookups of Django's date hierarchy and its links.
_HIERARCHY = ("year", "month", "day", "gte", "lt")


class StrictChangeList(ChangeList):
    """A list that accepts only lookups of its declared filters.

    Django's own list accepts any lookup of any column. With `?secret__regex=` a user with the view
    permission reads a hidden column bit by bit.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        try:
            super().__init__(*args, **kwargs)
        except (OverflowError, DataError) as error:  # a date or a text that no column can store
            raise IncorrectLookupParameters(error) from error

    def get_filters(self, request: HttpRequest) -> Any:
        """Refuse each lookup that no filter has consumed."""
        try:
            found = super().get_filters(request)
        except ValueError as error:  # the date hierarchy ends before the year 10000
            raise IncorrectLookupParameters(error) from error
        self._refuse_undeclared(found[2])
        return found

    def get_ordering_field(self, field_name: Any) -> Any:
        """Refuse columns that are not in `sortable_by`; Django applies it only to its links."""
        is_offered = field_name in (self.sortable_by or ())
        return super().get_ordering_field(field_name) if is_offered else None

    def _refuse_undeclared(self, lookups: Iterable[str]) -> None:
        allowed = {f"{self.date_hierarchy}__{part}" for part in _HIERARCHY}
        for lookup in lookups:
            if lookup not in allowed:
                raise DisallowedModelAdminLookup(
                    _("Filtering by %(lookup)s is not allowed.") % {"lookup": lookup}
                )


class StrictAdminMixin(ModelAdmin):  # type: ignore[type-arg]  # generic in stubs only
    """A mixin, placed before `ModelAdmin`, so that a page's URL reveals no hidden column.

    An action that declares no permission requires the change permission.
    """

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        """Return the admin's own list class, made strict."""
        kind = super().get_changelist(request, **kwargs)
        return _strict(kind)  # type: ignore[arg-type]  # the stubs take a class for unhashable

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """Search by at most `LONGEST_SEARCH` characters."""
        if len(search_term) > LONGEST_SEARCH:
            text = _("The search has %(number)d characters. At most %(most)d are allowed.")
            raise BadRequest(text % {"most": LONGEST_SEARCH, "number": len(search_term)})
        return super().get_search_results(request, queryset, search_term)

    def get_object(
        self, request: HttpRequest, object_id: str, from_field: str | None = None
    ) -> Any:
        """Treat an empty field name (`?_to_field=`) as none."""
        return super().get_object(request, object_id, from_field or None)

    def changeform_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Refuse a form value that passed its field and that the column cannot store."""
        try:
            return super().changeform_view(request, *args, **kwargs)
        except (OverflowError, DataError) as error:
            text = _("A value of the form is out of the range of its database column.")
            raise BadRequest(text) from error

    def response_action(
        self, request: HttpRequest, queryset: QuerySet[Any], *args: Any, **kwargs: Any
    ) -> HttpResponse | None:
        """Refuse the action if a chosen key is one that no row can have."""
        if not self.are_keys(request.POST.getlist(ACTION_CHECKBOX_NAME)):
            text = _("The action did not run: the key of a selected row is invalid.")
            self.message_user(request, text, messages.ERROR)
            return HttpResponseRedirect(request.get_full_path())
        return super().response_action(request, queryset, *args, **kwargs)

    def are_keys(self, texts: Iterable[str]) -> bool:
        """Return whether each text is a valid value of the primary key's column."""
        key = self.opts.pk
        try:
            for text in texts:
                key.run_validators(key.to_python(text))
        except ValidationError:
            return False
        return True

    def get_actions(self, request: HttpRequest, action_location: Any = None) -> Any:
        """Leave out actions without an own permission for users who may only view.

        Args:
            action_location: given by Django from 6.1 on, whose actions are objects, not tuples.
        """
        location = {} if action_location is None else {"action_location": action_location}
        found: Any = super().get_actions(request, **location)
        if self.has_change_permission(request):
            return found
        return {
            name: action
            for name, action in found.items()
            if getattr(_function(action), "allowed_permissions", ())
        }


def _function(action: Any) -> Any:
    return action[0] if isinstance(action, tuple) else action.func


@cache
def _strict(kind: type[ChangeList]) -> type[ChangeList]:
    if issubclass(kind, StrictChangeList):
        return kind
    return type(f"Strict{kind.__name__}", (StrictChangeList, kind), {})
