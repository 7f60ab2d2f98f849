"""Settlements past their deadline: publish the event again, then make the delivery a dead letter.

Each delivery is locked before its settlements, as by its receipt and by a report. So a report that
arrives at the same moment is stored before or after this step, and is never lost.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from functools import partial
from itertools import groupby

from django.db import transaction
from django.db.models import QuerySet
from django.utils.text import get_text_list

from outbox import clock
from outbox.deliveries import failpoints, replays
from outbox.deliveries.attempts import NOTE_LENGTH
from outbox.deliveries.locks import share_subscriptions
from outbox.deliveries.statements import bound_transaction
from outbox.formatting import span
from outbox.models import Attempt, Delivery, Settlement
from outbox.transports.nudge import nudge_of

logger = logging.getLogger("outbox.settlements")

State = Settlement.State

#: Name of the operator of automatic replays, in notes and attempts.
BY = "outbox.settlements"
#: `exception` of the attempt that made a delivery dead.
MISSING = "SettlementMissing"
#: Settlements of one transaction.
_PAGE = 200
#: PostgreSQL ends the transaction of a process that is idle for so many seconds.
_IDLE_SECONDS = 10.0


def pursue(*, using: str) -> bool:
    """Act on a page of overdue settlements in one transaction.

    Deliveries that another transaction has locked are left to a later pass. Return whether the page
    was full, so more settlements may be overdue.
    """
    now = clock.now(using=using)
    overdue = Settlement.objects.using(using).filter(state=State.OPEN, due_at__lte=now)
    with transaction.atomic(using=using):
        bound_transaction(_IDLE_SECONDS, using=using)
        share_subscriptions(using=using)  # so that none of them ends
        found = overdue.order_by("due_at").values_list("delivery", flat=True)[:_PAGE]
        rows = Delivery.objects.using(using).filter(pk__in=list(found)).order_by("pk")
        locked = rows.select_for_update(of=("self",), skip_locked=True)
        deliveries = {row.pk: row for row in locked.select_related("subscription")}
        # Read after the lock: a report may have settled some meanwhile.
        late = overdue.filter(delivery__in=list(deliveries)).order_by("delivery", "consumer")
        number = 0
        for pk, some in groupby(late, key=lambda one: one.delivery_id):
            mine = list(some)
            _act(deliveries[pk], mine, now=now, using=using)
            number += len(mine)
        failpoints.reach(failpoints.IN_PURSUIT)
        transaction.on_commit(nudge_of(using), using=using, robust=True)
    return number >= _PAGE


def _act(row: Delivery, late: Sequence[Settlement], *, now: datetime, using: str) -> None:
    """Withdraw, postpone, replay or give up the overdue settlements of one delivery."""
    names = row.subscription.consumer_names
    is_ended = row.state == Delivery.State.DISCARDED or not row.subscription.active
    unwanted = [one for one in late if is_ended or one.consumer not in names]
    _rows(unwanted, using).update(state=State.WITHDRAWN)
    wanted = [one for one in late if one not in unwanted]
    if not wanted:
        return
    for one in wanted:
        one.due_at = now + timedelta(seconds=one.seconds)
    Settlement.objects.using(using).bulk_update(wanted, ["due_at"])
    if row.state != Delivery.State.DONE:
        return  # it is published again, or waits for a person
    exhausted = [one for one in wanted if one.replays >= one.most_replays]
    if exhausted:
        _give_up(row, exhausted, now=now, using=using)
    else:
        _replay(row, wanted, using=using)


def _replay(row: Delivery, late: Sequence[Settlement], *, using: str) -> None:
    for one in late:
        one.replays += 1
    Settlement.objects.using(using).bulk_update(late, ["replays"])
    reason = _sentence(late)
    replays.replay(_delivery(row, using), by=BY, reason=reason)
    text = "%s: delivery %s is published again, replay %d of %d: %s."
    number, most = max((one.replays, one.most_replays) for one in late)
    _log(text, row.subscription.handler, row.pk, number, most, reason, using=using)


def _give_up(row: Delivery, late: Sequence[Settlement], *, now: datetime, using: str) -> None:
    _rows(late, using).update(state=State.MISSING)
    times = max(one.replays for one in late)
    reason = f"{_sentence(late)}, after {times} {'replay' if times == 1 else 'replays'}"
    published = row.settled_at or now
    Attempt.objects.using(using).create(
        delivery=row,
        number=row.attempts,
        started_at=min(published, now),
        ended_at=now,
        worker=row.worker,
        outcome=Attempt.Outcome.UNSETTLED,
        exception=MISSING,
        message=reason,
    )
    # Without an order key: it was published, so it does not hold the later events of its key.
    _delivery(row, using).update(
        state=Delivery.State.DEAD, due_at=now, settled_at=None, note=reason[:NOTE_LENGTH]
    )
    text = "%s: delivery %s is dead: %s. See `manage.py outbox why %s`."
    _log(text, row.subscription.handler, row.pk, reason, row.pk, using=using)


def _sentence(late: Iterable[Settlement]) -> str:
    """Name the consumers and the deadline: "billing has not settled it within 5 minutes"."""
    rows = list(late)
    names = get_text_list([one.consumer for one in rows], "and")
    has = "has" if len(rows) == 1 else "have"
    within = span(timedelta(seconds=max(one.seconds for one in rows)))
    return f"{names} {has} not settled it within {within}"


def _rows(some: Iterable[Settlement], using: str) -> QuerySet[Settlement]:
    return Settlement.objects.using(using).filter(pk__in=[one.pk for one in some])


def _delivery(row: Delivery, using: str) -> QuerySet[Delivery]:
    return Delivery.objects.using(using).filter(pk=row.pk)


def _log(text: str, *values: object, using: str) -> None:
    transaction.on_commit(partial(logger.warning, text, *values), using=using)
