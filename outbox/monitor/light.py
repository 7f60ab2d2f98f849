"""The health light: the state of the whole outbox in one or two words, by a few bounded queries."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from django.db import DEFAULT_DB_ALIAS, Error
from django.db.models import OuterRef, QuerySet, Subquery
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from outbox import databases
from outbox.deliveries.transient_errors import drop_broken_connection
from outbox.models import Attempt, Delivery, Subscription
from outbox.transports.base import NUDGES

from .conditions import Condition, is_stopped
from .health import health_of_parts

logger = logging.getLogger("outbox.monitor")

State = Delivery.State

_SEVERITY = tuple(Condition)
#: Seconds for which a database that could not be read is not tried again.
_AGAIN_SECONDS = 10.0
#: By database, until when this process does not try it again.
_unread_until: dict[str, float] = {}


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
    """Return the most severe trouble; cost: at most ten queries, none of which counts."""
    using = using or databases.alias()
    healthy = Light(Condition.COMPLETE, _("healthy"))
    return next(_troubles(using), healthy)


def light_of_all() -> tuple[Light, str]:
    """Return the most severe trouble of all databases, and the database that has it.

    With several databases its text names the database. One that cannot be read is the most severe
    trouble. It is not tried again for `_AGAIN_SECONDS`: each page of the admin shows the light.

    Raises:
        django.db.Error: the only one is the default one, and cannot be read. The users of the admin
            are usually in it, so no page works without it.
    """
    places = databases.aliases()
    if places == (DEFAULT_DB_ALIAS,):
        return light(), DEFAULT_DB_ALIAS
    found = [(_named(using), using) for using in places]
    return min(found, key=lambda one: _SEVERITY.index(one[0].condition))


def _named(using: str) -> Light:
    """Return the light of a database; of one of several, its text names the database."""
    if time.monotonic() >= _unread_until.get(using, 0.0):
        try:
            found = light(using=using)
        except Error as error:
            logger.warning("The database %s cannot be read for the health light: %s", using, error)
            drop_broken_connection(using=using)
            _unread_until[using] = time.monotonic() + _AGAIN_SECONDS
        else:
            facts = {"using": using, "text": found.text}
            if found.condition == Condition.COMPLETE or len(databases.aliases()) == 1:
                return found
            return Light(found.condition, _("%(using)s: %(text)s") % facts)
    return Light(Condition.DEAD, _("the database %s cannot be read") % using)


def _troubles(using: str) -> Iterator[Light]:
    off = [part for part in health_of_parts(using=using) if not part.is_on]
    nudges = [part for part in off if part.queue == NUDGES]
    if silent := [part for part in off if part not in nudges]:
        text = ngettext("%d part does not work", "%d parts do not work", len(silent)) % len(silent)
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
    if nudges:  # relays poll without them, so all is delivered
        yield Light(Condition.HELD, _("%s failing") % nudges[0].name)


def _has_failed(rows: QuerySet[Delivery], *, using: str) -> QuerySet[Delivery, Any]:
    """Keep deliveries whose latest attempt failed."""
    attempts = Attempt.objects.using(using).filter(delivery=OuterRef("pk")).order_by("-id")
    with_outcome = rows.annotate(latest=Subquery(attempts.values("outcome")[:1]))
    return with_outcome.filter(latest__isnull=False).exclude(latest__in=Attempt.PUBLISHED_BEFORE)
