"""Dead deliveries grouped by handler, exception and place of the exception."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from datetime import datetime

from django.db.models import Case, Count, F, Max, Min, OuterRef, Subquery, TextField, Value, When
from django.utils.translation import gettext as _

from outbox import databases
from outbox.models import Attempt, Delivery
from outbox.receipt import PermanentFailure
from outbox.settlements.overdue import MISSING
from outbox.sources.unreadable import HANDLER


@dataclass(frozen=True, kw_only=True)
class Group:
    """Dead deliveries with the same cause.

    Attributes:
        handler: pinned name.
        exception: class name of the exception of the last attempt; "" if its worker died.
        place: where it was raised.
        is_overtaken: they did not fail. When the deaths of their workers were withdrawn, a later
            event of each key had run (`on_dead="pass"`). A retry runs them out of order.
        number: number of deliveries.
        first: end of the earliest of their last attempts.
        last: end of the latest of their last attempts.
        example: id of the latest of the deliveries.
        reason: why received messages could not be read; "" for other handlers.
    """

    handler: str
    exception: str
    place: str
    number: int
    first: datetime
    last: datetime
    example: int
    is_overtaken: bool = False
    reason: str = ""

    @property
    def cause(self) -> str:
        """The cause in words."""
        if self.is_overtaken:
            return _("a later event of its key ran before it")
        if self.reason:
            return self.reason
        if self.is_unsettled:
            return _("published, and not settled by a consumer in time")
        return self.exception or _("the worker died")

    @property
    def is_unsettled(self) -> bool:
        """Whether a sink has published them, and a consumer has not settled them."""
        return self.exception == MISSING

    @property
    def retry(self) -> str:
        """The command that retries the group."""
        return shlex.join(["manage.py", "outbox", "retry", "--dead", *self._options])

    @property
    def discard(self) -> str:
        """The command that discards the group; it requires a reason."""
        return shlex.join(["manage.py", "outbox", "discard", "--state", "dead", *self._options])

    @property
    def correct(self) -> str:
        """The command that corrects its example; "" if it is no received message."""
        if not self.reason:
            return ""
        options = ["--body", "FILE", "--reason", "TEXT"]
        return shlex.join(["manage.py", "outbox", "correct", str(self.example), *options])

    @property
    def _options(self) -> list[str]:
        if self.is_overtaken:
            return ["--handler", self.handler, "--overtaken"]
        cause = ["--exception", self.exception, "--place", self.place]
        message = ["--message", self.reason] if self.reason else []
        return ["--handler", self.handler, *cause, *message]


#: All messages that cannot be read fail with one exception at one place.
_REASON = Case(
    When(
        delivery__subscription__handler=HANDLER,
        exception=PermanentFailure.__name__,
        then=F("message"),
    ),
    default=Value(""),
    output_field=TextField(),
)


def groups(*, using: str | None = None, most: int | None = None) -> list[Group]:
    """Return the groups of dead deliveries, the largest first.

    The cost grows with the number of dead deliveries.

    Args:
        using: the outbox's database alias.
        most: group only this many of the newest dead deliveries; None: all.
    """
    using = using or databases.alias()
    latest = Attempt.objects.using(using).filter(delivery=OuterRef("pk")).order_by("-id")
    dead = Delivery.objects.using(using).filter(state=Delivery.State.DEAD)
    if most is not None:
        newest = list(dead.order_by("-pk").values_list("pk", flat=True)[:most])
        dead = Delivery.objects.using(using).filter(pk__in=newest)
    last = dead.annotate(last=Subquery(latest.values("pk")[:1])).values("last")
    rows = (
        Attempt.objects.using(using)
        .filter(pk__in=last)
        .annotate(overtaken=Case(When(outcome__in=Attempt.EXCUSED, then=True), default=False))
        .annotate(reason=_REASON)
        .values("delivery__subscription__handler", "exception", "place", "overtaken", "reason")
        .annotate(
            number=Count("pk"),
            first=Min("ended_at"),
            latest=Max("ended_at"),
            example=Max("delivery"),
        )
    )
    found = [
        Group(
            handler=row["delivery__subscription__handler"],
            exception=row["exception"],
            place=row["place"],
            number=row["number"],
            first=row["first"],
            last=row["latest"],
            example=row["example"],
            is_overtaken=row["overtaken"],
            reason=row["reason"],
        )
        for row in rows.order_by()
    ]
    return sorted(found, key=lambda one: (-one.number, one.handler, one.cause, one.place))
