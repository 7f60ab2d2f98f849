"""The targets of an event: one delivery of a handler finds them, and each gets its own delivery."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial, wraps
from typing import Any

from asgiref.sync import iscoroutinefunction, sync_to_async
from django.db import transaction

from outbox import clock
from outbox.deliveries.locks import share_subscriptions
from outbox.models import Delivery, Subscription
from outbox.receipt import PermanentFailure, Target
from outbox.storable import refuse_unstorable
from outbox.subscriptions import Handler
from outbox.transports.nudge import nudge_of

_LONGEST = 200
_LONGEST_SHARE = 100


def finder(handler: Handler, delivery: Delivery, *, using: str) -> Handler:
    """Return the handler that stores a delivery for each target of the event.

    It is atomic: the deliveries commit with the receipt of `delivery`. A target that has a delivery
    already gets no second one, so a replay reaches new targets only.
    """
    assert handler.targets is not None
    function = _storing(handler.targets, partial(_store, handler, delivery, using=using))
    return replace(
        handler,
        function=function,
        targets=None,
        bulk=False,
        atomic=True,
        shared_transaction=False,
        breaker=None,  # it calls no external system
    )


def _storing(
    targets: Callable[..., Any], store: Callable[[Iterable[str | Target]], None]
) -> Callable[..., object]:
    @wraps(targets)
    def run(**arguments: object) -> None:
        store(targets(**arguments))

    if not iscoroutinefunction(targets):
        return run

    @wraps(targets)
    async def run_async(**arguments: object) -> None:
        await sync_to_async(store)(await targets(**arguments))

    return run_async


def _store(
    handler: Handler, delivery: Delivery, found: Iterable[str | Target], *, using: str
) -> None:
    targets = {one.name: one for one in map(_target, found)}
    if not targets:
        return
    share_subscriptions(using=using)  # so that the subscription does not end meanwhile
    # Read after the lock: two rows may have been merged since the start, or the subscription ended.
    mine = Subscription.objects.using(using).filter(deliveries=delivery.pk, active=True)
    subscription = mine.values_list("pk", flat=True).first()
    if subscription is None:
        return
    now = clock.now(using=using)
    Delivery.objects.using(using).bulk_create(
        (
            Delivery(
                event_id=delivery.event_id,
                subscription_id=subscription,
                target=one.name,
                share=(one.share or delivery.share) if handler.share_window else None,
                due_at=now,
            )
            for one in targets.values()
        ),
        ignore_conflicts=True,
    )
    transaction.on_commit(nudge_of(using), using=using, robust=True)


def _target(given: object) -> Target:
    target = Target(given) if isinstance(given, str) else given
    if not isinstance(target, Target) or not _fits(target.name, _LONGEST):
        raise PermanentFailure(
            f"targets= returned {given!r}. Return texts of 1 to {_LONGEST} characters, or Targets."
        )
    if target.share is not None and not _fits(target.share, _LONGEST_SHARE):
        raise PermanentFailure(
            f"targets= returned the share {target.share!r}. Return a text of 1 to "
            f"{_LONGEST_SHARE} characters, or None."
        )
    facts = {"name": "A target of targets=", "target": target.name, "share": target.share}
    refuse_unstorable(facts)
    return target


def _fits(text: object, longest: int) -> bool:
    return isinstance(text, str) and 0 < len(text) <= longest
