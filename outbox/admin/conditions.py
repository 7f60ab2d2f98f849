"""A badge and a filter by condition for the list of a model that events are about."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import cache
from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.views.main import ChangeList
from django.core.exceptions import ValidationError
from django.db.models import Model, Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from outbox.monitor.conditions import (
    TROUBLED,
    Condition,
    conditions_of_keys,
    keys_in,
    worst,
)
from outbox.templatetags.outbox_display import NOTHING, condition_badge

from .timeline import TimelineMixin

COLUMN = "outbox_condition"
#: Values of the widest integer column. SQLite refuses a parameter beyond them.
_INTEGERS = range(-(2**63), 2**63)


class ConditionFilter(admin.SimpleListFilter):
    """Rows that are failing, held, dead or overdue."""

    title = gettext_lazy("condition")
    parameter_name = "condition"

    def __init__(self, request: HttpRequest, params: Any, model: Any, model_admin: Any) -> None:
        super().__init__(request, params, model, model_admin)
        self._page = model_admin

    def lookups(self, request: HttpRequest, model_admin: Any) -> Sequence[tuple[str, Any]]:
        """Offer the conditions that need attention."""
        return [(one.value, one.label) for one in TROUBLED]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Keep rows with a delivery in the condition, and rows that are overdue themselves."""
        value = self.value()
        if value not in TROUBLED:
            return queryset
        condition = Condition(value)
        matching = keys_in(condition)
        if matching.is_cut:
            text = _(
                "This list is incomplete. Too many deliveries are owed to examine all of them. "
                "Filter by other columns, or see the page of failures."
            )
            messages.warning(request, text)
        found = Q(pk__in=self._page.rows_of_keys(matching.keys))
        own = self._page.overdue() if condition == Condition.OVERDUE else None
        return queryset.filter(found | own if own is not None else found)


class ConditionMixin(TimelineMixin):
    """`TimelineMixin`, and a badge and a filter by condition in the list.

    Mix it into the admin of a model whose events have its primary key as their key::

        class ParcelAdmin(ConditionMixin, admin.ModelAdmin): ...

    The badge has the most severe condition of the row's events: dead, failing, held, overdue, in
    progress or complete. The row's page counts the effects of these events, too, whatever their
    key, so its condition may be more severe. A delivery is failing from its first failed attempt
    until it is done or dead. Users who may view events see the badge and the filter. A page of the
    list costs two queries more.

    With another `timeline_key`, override `rows_of_keys`, too.
    """

    def overdue(self) -> Q | None:
        """Return the condition on rows that have missed a deadline of their own, or None."""
        return None

    def unfinished(self) -> Q | None:
        """Return the condition on rows that are in progress without an owed delivery, or None."""
        return None

    def overdue_text(self, obj: Any) -> str:
        """Return the sentence on the page of a row that `overdue` finds."""
        return _("The deadline of this row has passed.")

    def rows_of_keys(self, keys: Collection[str]) -> list[Any]:
        """Return the primary keys of rows whose events have these keys; others are ignored."""
        column, found = self.opts.pk, []
        for key in keys:
            try:
                value = column.to_python(key)
            except (ValidationError, ValueError, OverflowError):
                continue  # the key of another model's events
            if not isinstance(value, int) or value in _INTEGERS:
                found.append(value)
        return found

    def get_list_display(self, request: HttpRequest) -> list[Any]:
        """Add the badge after the first column."""
        columns = list(super().get_list_display(request))
        if COLUMN not in columns and request.user.has_perm("outbox.view_event"):
            columns.insert(1, COLUMN)
        return columns

    def get_list_filter(self, request: HttpRequest) -> list[Any]:
        """Add the filter as the first one."""
        filters = list(super().get_list_filter(request))
        is_allowed = request.user.has_perm("outbox.view_event")
        return [ConditionFilter, *filters] if is_allowed else filters

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        """Return the list that finds the conditions of its rows in two queries."""
        kind = super().get_changelist(request, **kwargs)
        return _with_conditions(kind)  # type: ignore[arg-type]  # as in `strict_lookups`

    @admin.display(description=gettext_lazy("condition"))
    def outbox_condition(self, obj: Any) -> str:
        """Show the condition; a dash without events."""
        found = getattr(obj, "outbox_condition_found", None)
        return condition_badge(found) if found else NOTHING

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        """Add the sentence about a missed deadline."""
        obj = kwargs.get("obj")
        if obj is not None and self._pks(self.overdue(), [obj.pk]):
            context["outbox_overdue"] = self.overdue_text(obj)
        return super().render_change_form(request, context, *args, **kwargs)

    def conditions_of_rows(self, rows: Sequence[Model]) -> dict[Any, Condition | None]:
        """Return the most severe condition of each row by its primary key."""
        keys = {row.pk: self.timeline_key(row) for row in rows}
        by_key = conditions_of_keys(set(keys.values()))
        own = {
            Condition.OVERDUE: self._pks(self.overdue(), keys),
            Condition.IN_PROGRESS: self._pks(self.unfinished(), keys),
        }
        return {
            pk: worst(
                [
                    *([by_key[key]] if key in by_key else []),
                    *(condition for condition, pks in own.items() if pk in pks),
                ]
            )
            for pk, key in keys.items()
        }

    def _pks(self, condition: Q | None, pks: Collection[Any]) -> set[Any]:
        if condition is None or not pks:
            return set()
        rows = self.model._default_manager.filter(condition, pk__in=pks)
        return set(rows.order_by().values_list("pk", flat=True))


class _ConditionList(ChangeList):
    """Adds the condition to each row of the page."""

    model_admin: ConditionMixin

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        if COLUMN not in self.list_display:
            return
        found = self.model_admin.conditions_of_rows(list(self.result_list))
        for row in self.result_list:
            row.outbox_condition_found = found[row.pk]


@cache  # one class for each list class, not one for each request
def _with_conditions(kind: type[ChangeList]) -> type[ChangeList]:
    return type(kind.__name__, (_ConditionList, kind), {})
