"""The health light: the state of the whole outbox in one or two words, by a few bounded queries."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from django.db.models import OuterRef, QuerySet, Subquery
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from outbox import databases
from outbox.models import Attempt, Delivery, Subscription

from .conditions import Condition, is_stopped
from .health import health_of_parts

State = Delivery.State


@dataclass(frozen=True)
class Light:
    """The most severe trouble of the outbox.

    Attributes:
        condition: dead, failing, held or complete; it chooses colour and shape.
        text: the trouble in words.
    """

    condition: Condition
    text: str


def light(*, using: str | None = None) -> Light:
    """Return the most severe trouble; cost: at most nine queries, none of which counts."""
    using = using or databases.alias()
    healthy = Light(Condition.COMPLETE, _("healthy"))
    return next(_troubles(using), healthy)


def _troubles(using: str) -> Iterator[Light]:
    if silent := [part for part in health_of_parts(using=using) if not part.is_on]:
        text = ngettext("%d part silent", "%d parts silent", len(silent)) % len(silent)
        if len(silent) == 1:
            text = _("%s failing") if silent[0].is_failing else _("%s silent")
            text %= silent[0].name
        yield Light(Condition.DEAD, text)
    rows = Delivery.objects.using(using)
    if rows.filter(state=State.DEAD).exists():
        yield Light(Condition.DEAD, _("dead letters"))
    waiting = rows.filter(state=State.PENDING, started_token__gt=0)
    # Those of a sink are with a worker most of the time.
    running = rows.filter(state=State.SENT, token__gt=1)
    if any(_has_failed(one, using=using).exists() for one in (waiting, running)):
        yield Light(Condition.FAILING, _("failing"))
    if any(is_stopped(row) for row in Subscription.objects.using(using).filter(active=True)):
        yield Light(Condition.HELD, _("handlers held"))


def _has_failed(rows: QuerySet[Delivery], *, using: str) -> QuerySet[Delivery, Any]:
    """Keep deliveries whose latest attempt failed."""
    attempts = Attempt.objects.using(using).filter(delivery=OuterRef("pk")).order_by("-id")
    with_outcome = rows.annotate(latest=Subquery(attempts.values("outcome")[:1]))
    return with_outcome.filter(latest__isnull=False).exclude(latest__in=Attempt.PUBLISHED_BEFORE)
