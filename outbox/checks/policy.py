"""Checks of a handler's policy: parts of it that have no effect because of another.

E013 its breaker counts an exception that a rule makes final
W003 its breaker guards an atomic handler, which calls no external system
W004 a rule retries, but the handler has a single attempt
"""

from __future__ import annotations

from collections.abc import Iterator

from django.core.checks import CheckMessage, Error, Warning

from outbox.contracts.catalogue import place
from outbox.policy import Retry, action_for_kind
from outbox.subscriptions import Handler


def check_policy(handler: Handler) -> Iterator[CheckMessage]:
    """Find rules and breakers that cannot take effect."""
    yield from _counted_and_final(handler)
    if handler.breaker is not None and handler.atomic:
        yield Warning(
            f"{handler.name} has a breaker and is atomic: an atomic handler calls nobody outside, "
            "since its transaction would stay open meanwhile.",
            hint="Write it with atomic=False and `with receipt:`, or drop the breaker.",
            obj=place(handler),
            id="outbox.W003",
        )
    if handler.attempts == 1 and any(isinstance(one, Retry) for one in handler.rules.values()):
        yield Warning(
            f"{handler.name} has a rule that retries, and a single attempt: it never does.",
            hint="Give it more attempts, or drop the rule.",
            obj=place(handler),
            id="outbox.W004",
        )


def _counted_and_final(handler: Handler) -> Iterator[CheckMessage]:
    for kind in handler.breaker.on if handler.breaker is not None else ():
        action = action_for_kind(kind, handler.rules)
        if not isinstance(action, Retry):
            yield Error(
                f"{handler.name} counts {kind.__name__} for its breaker, and by its rules it is "
                f"{type(action).__name__}: an hour of that would cost each delivery.",
                hint="A breaker counts what may be tried again later.",
                obj=place(handler),
                id="outbox.E013",
            )
