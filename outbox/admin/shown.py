"""What a confirmation has shown. Its form carries that, and the action concerns nothing else.

Before the form is sent, a colleague may retry one of the deliveries, others may die, or the same
form may be sent twice. An action that cannot be undone leaves out what has changed since.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import NamedTuple

from django import forms
from django.core import signing
from django.http import HttpRequest
from django.utils.translation import gettext as _

from outbox import clock

#: The name of the hidden field.
FIELD = "shown"
#: No retry: it does no harm to a delivery that has changed or died since.
_ACTIONS = ("discard", "replay")
_SALT = "outbox.admin.shown."


class Shown(NamedTuple):
    """What a confirmation has shown.

    Attributes:
        at: the time of its page, by the clock of the database.
        states: the states of the chosen deliveries by id; empty if they were chosen by a filter.
    """

    at: datetime
    states: Mapping[int, str]


def sign_shown(action: str, states: Mapping[int, str] | None = None) -> dict[str, str]:
    """Return the hidden field of a confirmation, by its name. Call it before its numbers are read.

    A retry has none.
    """
    if action not in _ACTIONS:
        return {}
    shown = {"at": clock.now().isoformat(), "states": list((states or {}).items())}
    return {FIELD: signing.dumps(shown, salt=_SALT + action, compress=True)}


def read_shown(request: HttpRequest, form: forms.Form, action: str) -> Shown | None:
    """Return what the confirmation has shown; None for a retry, or if it has not been shown yet.

    A form that was sent without a valid field gets an error, so that the confirmation is shown
    again.
    """
    if action not in _ACTIONS:
        return None
    try:
        found = signing.loads(request.POST.get(FIELD, ""), salt=_SALT + action)
    except signing.BadSignature:
        if form.is_bound:
            text = _("This confirmation is no longer valid. Check the numbers, and confirm again.")
            form.add_error(None, text)
        return None
    return Shown(datetime.fromisoformat(found["at"]), dict(found["states"]))
