"""Each handler stores one row for each event; `follow` in order of their emission."""

import inspect
import os
import signal
from typing import Any
from uuid import UUID

from outbox import Receipt, subscribe
from tests.chaos.proving import sabotage
from tests.chaos.proving.models import Effect

#: Nothing, where the outbox cannot keep order per key yet; the checker then does not ask for it.
ORDERED: dict[str, Any] = (
    {"ordered": True}
    if "ordered" in inspect.signature(subscribe).parameters and not sabotage.is_chosen("unordered")
    else {}
)


class Hiccup(Exception):
    """The first attempt at some events fails, so that others can overtake them. Its effects must
    be rolled back."""


@subscribe("proving.Changed")
def record(thing_id: UUID, number: int) -> None:
    Effect.objects.create(handler="record", thing_id=thing_id, number=number)


@subscribe("proving.Changed", **ORDERED)
def follow(thing_id: UUID, number: int, attempt: int) -> None:
    if number % 5 == 0 and attempt == 1:
        raise Hiccup
    Effect.objects.create(handler="follow", thing_id=thing_id, number=number)


@subscribe("proving.Changed", atomic=False, queue="proving.outside")
def call_outside(thing_id: UUID, number: int, attempt: int, receipt: Receipt) -> None:
    effect = Effect(handler="call_outside", thing_id=thing_id, number=number)
    if sabotage.is_chosen("effects_before_receipt"):
        effect.save()
    with receipt:
        effect.save()  # changes nothing where it is saved already
        if number % 3 == 0 and attempt == 1:
            raise Hiccup


@subscribe("proving.Poisoned", queue="proving.poison", batch=1, lease=1)
def swallow() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
