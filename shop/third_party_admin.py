"""Admins of third-party apps, registered again because theirs answer some input with a 500."""

from __future__ import annotations

import json
from typing import Any

from axes.admin import AccessAttemptAdmin
from axes.models import AccessAttempt
from celery.schedules import ParseException
from django import forms
from django.contrib import admin
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django_celery_beat import admin as beat
from django_celery_beat.models import CrontabSchedule, PeriodicTask

_KINDS: dict[str, tuple[type, str]] = {"args": (list, "[]"), "kwargs": (dict, "{}")}
_KINDS["headers"] = _KINDS["kwargs"]

for _model in (PeriodicTask, CrontabSchedule, AccessAttempt):
    admin.site.unregister(_model)


class PeriodicTaskForm(beat.PeriodicTaskForm):  # type: ignore[misc]  # it is untyped
    """Accepts only values that beat can read from the row later."""

    def clean(self) -> Any:
        """Provide the key that beat's own check reads, if the field was refused."""
        self.cleaned_data.setdefault("task", "")
        return super().clean()

    def clean_headers(self) -> str:
        """Check the headers as beat checks the arguments; beat itself does not check them."""
        return self._clean_json("headers")

    def _clean_json(self, field: str) -> str:
        kind, empty = _KINDS[field]
        text: str = self.cleaned_data[field] or empty
        try:
            value = json.loads(text)
        except RecursionError:
            raise forms.ValidationError(_("Arrays and objects are nested too deep.")) from None
        except ValueError as error:
            raise forms.ValidationError(_("This is not valid JSON: %s") % error) from None
        if not isinstance(value, kind):
            raise forms.ValidationError(_("Enter a JSON value such as %s.") % empty)
        return text


@admin.register(PeriodicTask)
class PeriodicTaskAdmin(beat.PeriodicTaskAdmin):  # type: ignore[misc]  # it is untyped
    """Without `run_tasks`, which connects to the broker: no request of this site does."""

    form = PeriodicTaskForm
    actions = ("enable_tasks", "disable_tasks", "toggle_tasks")


@admin.register(CrontabSchedule)
class CrontabScheduleAdmin(beat.CrontabScheduleAdmin):  # type: ignore[misc]  # it is untyped
    """Shows a form again although its values are not a schedule."""

    list_display = ("__str__", "in_words")
    fields = ("in_words", *beat.CrontabScheduleAdmin.fields[1:])
    readonly_fields = ("in_words",)

    @admin.display(description=gettext_lazy("human readable"))
    def in_words(self, row: CrontabSchedule) -> str:
        try:
            return str(row.human_readable)
        except ParseException:
            return str(self.get_empty_value_display())

    def formfield_for_dbfield(self, db_field: Any, request: Any, **kwargs: Any) -> Any:
        """Leave out the hidden initial value, which is read without a check."""
        field = super().formfield_for_dbfield(db_field, request, **kwargs)
        if db_field.name == "timezone":
            field.show_hidden_initial = False
        return field


@admin.register(AccessAttempt)
class AttemptAdmin(AccessAttemptAdmin):  # type: ignore[misc]  # it is untyped
    """Without `cleanup_expired_attempts`, which needs data that no request of the admin has.

    Expired attempts are removed at the next login.
    """

    actions = ()
