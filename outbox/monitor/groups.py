"""Dead deliveries in groups: those of one handler that failed of the same thing at one place."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from datetime import datetime

from django.db.models import Case, Count, Max, Min, OuterRef, Subquery, When
from django.utils.translation import gettext as _

from outbox import databases
from outbox.models import Attempt, Delivery


@dataclass(frozen=True, kw_only=True)
class Group:
    """Dead deliveries of one cause.

    Attributes:
        handler: pinned name.
        exception: the class name that the last attempt raised; "" where its worker died.
        place: where it was raised.
        is_overtaken: no failure has hit them: when the deaths of their workers were withdrawn, a
            later event of each key had run (`on_dead="pass"`). A retry runs them out of order.
        number: how many are dead of it.
        first: when the earliest of these last attempts ended.
        last: when the latest did.
        example: the number of one of the deliveries, the latest.
    """

    handler: str
    exception: str
    place: str
    number: int
    first: datetime
    last: datetime
    example: int
    is_overtaken: bool = False

    @property
    def cause(self) -> str:
        """What they are dead of, in words."""
        if self.is_overtaken:
            return _("a later event of its key ran before it")
        return self.exception or _("the worker died")

    @property
    def retry(self) -> str:
        """The command that retries the group."""
        return shlex.join(["manage.py", "outbox", "retry", "--dead", *self._options])

    @property
    def discard(self) -> str:
        """The command that discards the group; it asks for a reason."""
        return shlex.join(["manage.py", "outbox", "discard", "--state", "dead", *self._options])

    @property
    def _options(self) -> list[str]:
        if self.is_overtaken:
            return ["--handler", self.handler, "--overtaken"]
        return ["--handler", self.handler, "--exception", self.exception, "--place", self.place]


def groups(*, using: str | None = None, most: int | None = None) -> list[Group]:
    """Return what is dead in groups, the largest first. The cost follows what is dead.

    Args:
        using: the outbox's database alias.
        most: group the newest so many dead ones alone; None: all.
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
        .values("delivery__subscription__handler", "exception", "place", "overtaken")
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
        )
        for row in rows.order_by()
    ]
    return sorted(found, key=lambda one: (-one.number, one.handler, one.cause, one.place))
