"""Findings about configured sinks and sources that `migrate` has not subscribed."""

from __future__ import annotations

from collections.abc import Iterator

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from outbox.formatting import migrate_command
from outbox.models import Subscription
from outbox.sinks.configuration import configured
from outbox.sources import configuration as sources
from outbox.sources.unreadable import HANDLER

from .findings import Finding, error

_TEXT = gettext_lazy("It is configured, but not subscribed.")


def examine(*, using: str) -> Iterator[Finding]:
    """Compare the settings with the subscriptions that the last `migrate` stored."""
    if not (configured() or sources.configured()):
        return
    rows = Subscription.objects.using(using).filter(known=True)
    known = set(rows.values_list("handler", flat=True))
    step = _("Run `manage.py %(migrate)s` with the same OUTBOX as the other processes.") % {
        "migrate": migrate_command(using)
    }
    for name, sink in sorted(configured().items()):
        if sink.handler not in known:
            yield error(
                f"sink {name}",
                _("%(text)s It publishes nothing.") % {"text": _TEXT},
                step,
            )
    if HANDLER not in known:
        for name in sorted(sources.configured()):
            yield error(
                f"source {name}",
                _("%(text)s Its unreadable messages become no dead letters.") % {"text": _TEXT},
                step,
            )
