"""What an admin refuses: lookups that no filter declares, and values that no column holds."""

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

#: Characters of a search. SQLite refuses longer patterns and deeper conditions.
LONGEST_SEARCH = 200
#: What Django makes of a hierarchy of dates, and what its links ask by.
_HIERARCHY = ("year", "month", "day", "gte", "lt")


class StrictChangeList(ChangeList):
    """A list that only its declared filters narrow.

    Django's own takes any lookup of any column of the model: with `?secret__regex=` whoever may
    see the list reads a column that it does not show, bit by bit.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        try:
            super().__init__(*args, **kwargs)
        except (OverflowError, DataError) as error:  # a date, or a text, that no column holds
            raise IncorrectLookupParameters(error) from error

    def get_filters(self, request: HttpRequest) -> Any:
        """Refuse each lookup that no filter has used up."""
        try:
            found = super().get_filters(request)
        except ValueError as error:  # the hierarchy of dates ends before the year 10000
            raise IncorrectLookupParameters(error) from error
        self._refuse_undeclared(found[2])
        return found

    def get_ordering_field(self, field_name: Any) -> Any:
        """Order by no column that is not in `sortable_by`, which binds Django's links alone."""
        is_offered = field_name in (self.sortable_by or ())
        return super().get_ordering_field(field_name) if is_offered else None

    def _refuse_undeclared(self, lookups: Iterable[str]) -> None:
        allowed = {f"{self.date_hierarchy}__{part}" for part in _HIERARCHY}
        for lookup in lookups:
            if lookup not in allowed:
                raise DisallowedModelAdminLookup(f"Filtering by {lookup} is not allowed.")


class StrictAdminMixin(ModelAdmin):  # type: ignore[type-arg]  # generic in stubs only
    """Put it before `ModelAdmin`: what a page does not show cannot be found out by its address.

    An action that declares no permission needs the one to change the rows.
    """

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        """Return the admin's own list, made strict."""
        kind = super().get_changelist(request, **kwargs)
        return _strict(kind)  # type: ignore[arg-type]  # the stubs take a class for unhashable

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """Search by so many characters at most."""
        if len(search_term) > LONGEST_SEARCH:
            text = _("A search has at most %(most)d characters; this one has %(number)d.")
            raise BadRequest(text % {"most": LONGEST_SEARCH, "number": len(search_term)})
        return super().get_search_results(request, queryset, search_term)

    def get_object(
        self, request: HttpRequest, object_id: str, from_field: str | None = None
    ) -> Any:
        """Take an empty name of a field (`?_to_field=`) for none."""
        return super().get_object(request, object_id, from_field or None)

    def changeform_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Refuse a form with a value that no column holds, where its field has let it through."""
        try:
            return super().changeform_view(request, *args, **kwargs)
        except (OverflowError, DataError) as error:
            text = _("A value of the form is out of the range of its column.")
            raise BadRequest(text) from error

    def response_action(
        self, request: HttpRequest, queryset: QuerySet[Any], *args: Any, **kwargs: Any
    ) -> HttpResponse | None:
        """Do nothing where a chosen row has a key that no row can have."""
        if not self.are_keys(request.POST.getlist(ACTION_CHECKBOX_NAME)):
            text = _("Nothing was done: a chosen row has a key that no row can have.")
            self.message_user(request, text, messages.ERROR)
            return HttpResponseRedirect(request.get_full_path())
        return super().response_action(request, queryset, *args, **kwargs)

    def are_keys(self, texts: Iterable[str]) -> bool:
        """Return whether each text is a value that the primary key's column can hold."""
        key = self.opts.pk
        try:
            for text in texts:
                key.run_validators(key.to_python(text))
        except ValidationError:
            return False
        return True

    def get_actions(self, request: HttpRequest) -> Any:
        """Leave out actions without a permission of their own for who may only look."""
        found: Any = super().get_actions(request)
        if self.has_change_permission(request):
            return found
        return {
            name: action
            for name, action in found.items()
            if getattr(action[0], "allowed_permissions", ())
        }


@cache
def _strict(kind: type[ChangeList]) -> type[ChangeList]:
    if issubclass(kind, StrictChangeList):
        return kind
    return type(f"Strict{kind.__name__}", (StrictChangeList, kind), {})
