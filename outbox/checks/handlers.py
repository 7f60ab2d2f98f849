"""Checks of one handler: its annotations, parameter types and policy.

E004 an annotation cannot be resolved
E005 a parameter's type cannot be read from JSON
E006 a parameter that takes a fact is annotated with another type
E013 its breaker counts an exception that a rule makes final
W001 a parameter has no annotation
W003 its breaker guards an atomic handler, which calls no external system
W004 a rule retries, but the handler has a single attempt
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from datetime import datetime
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin
from uuid import UUID

from django.core.checks import CheckMessage, Error, Warning

from outbox.contracts.catalogue import place, type_name
from outbox.contracts.json_schemas import NO_SCHEMA, read_schema
from outbox.events import FACTS, EventRecord
from outbox.policy import Retry, action_for_kind
from outbox.receipt import Receipt
from outbox.subscriptions import Handler

_FACT_TYPES: dict[str, tuple[type[Any], ...]] = {
    "event_id": (UUID,),
    "emitted_at": (datetime,),
    "correlation_id": (UUID,),
    "causation_id": (UUID, NoneType),
    "actor": (str,),
    "key": (str,),
    "attempt": (int,),
    "receipt": (Receipt,),
    "event": (EventRecord,),
    "target": (str,),
}


def check_handler(handler: Handler) -> Iterator[CheckMessage]:
    """Find problems of a handler that do not depend on its events."""
    if handler.finder is not None:
        yield from check_handler(handler.finder)
    if handler.bulk:  # `subscribe` has checked its only parameter
        return
    yield from _unannotated(handler)
    try:
        types = handler.types
    except Exception as error:  # an annotation is code, which may raise anything
        yield _unresolved(handler, error)
        return
    yield from _facts(handler, types)
    yield from _unreadable(handler, types)


def first_line(error: Exception) -> str:
    """Return an error's message as one line that ends with a full stop."""
    return (str(error) or type(error).__name__).splitlines()[0].rstrip(".") + "."


def _unresolved(handler: Handler, error: Exception) -> CheckMessage:
    return Error(
        f"An annotation of {handler.name} cannot be resolved: {first_line(error)}",
        hint="Import the name at the top of the module, not within `if TYPE_CHECKING:`.",
        obj=place(handler),
        id="outbox.E004",
    )


def _unannotated(handler: Handler) -> Iterator[CheckMessage]:
    for name, parameter in handler.parameters.items():
        if name not in FACTS and parameter.annotation is parameter.empty:
            yield Warning(
                f"The parameter {name} of {handler.name} has no annotation. It receives the value "
                "as JSON has it, for example a string for a UUID or a date.",
                hint=f"Annotate {name} with the type that the handler needs, or with Any.",
                obj=place(handler),
                id="outbox.W001",
            )


def _facts(handler: Handler, types: Mapping[str, Any]) -> Iterator[CheckMessage]:
    for name, kind in types.items():
        given = _FACT_TYPES.get(name, ())
        annotated = handler.parameters[name].annotation is not inspect.Parameter.empty
        if annotated and not all(_takes(kind, one) for one in given):
            wanted = " | ".join(type_name(one) for one in given).replace("NoneType", "None")
            yield Error(
                f"The parameter {name} of {handler.name} is annotated as {type_name(kind)}. The "
                f"fact has the type {wanted}.",
                hint=f"Annotate it as {name}: {wanted}.",
                obj=place(handler),
                id="outbox.E006",
            )


def _takes(kind: Any, given: type[Any]) -> bool:
    """Return whether a parameter of type `kind` may hold an instance of `given`."""
    if get_origin(kind) is Annotated:
        return _takes(get_args(kind)[0], given)
    if get_origin(kind) in (Union, UnionType):
        return any(_takes(one, given) for one in get_args(kind))
    if hasattr(kind, "__supertype__"):  # NewType
        return _takes(kind.__supertype__, given)
    if kind is Any or not isinstance(kind, type):  # unknown types pass
        return True
    return issubclass(given, kind)


def _unreadable(handler: Handler, types: Mapping[str, Any]) -> Iterator[CheckMessage]:
    for name, kind in types.items():
        try:
            if name not in FACTS:
                read_schema(kind)
        except NO_SCHEMA as error:
            yield Error(
                f"The parameter {name} of {handler.name} has the type {type_name(kind)}, which "
                f"cannot be read from JSON: {first_line(error)}",
                hint="Use plain types, pydantic models, dataclasses or TypedDicts. For a row of a "
                "table, take its id and load the row in the handler.",
                obj=place(handler),
                id="outbox.E005",
            )


def check_policy(handler: Handler) -> Iterator[CheckMessage]:
    """Find rules and breakers that cannot take effect."""
    yield from _counted_and_final(handler)
    if handler.breaker is not None and handler.atomic:
        yield Warning(
            f"{handler.name} has a breaker and is atomic. An atomic handler must not call an "
            "external system, because its transaction would stay open during the call.",
            hint="Use atomic=False and `with receipt:`, or remove the breaker.",
            obj=place(handler),
            id="outbox.W003",
        )
    if handler.attempts == 1 and any(isinstance(one, Retry) for one in handler.rules.values()):
        yield Warning(
            f"{handler.name} has a rule that retries, but a single attempt. It never retries.",
            hint="Raise attempts=, or remove the rule.",
            obj=place(handler),
            id="outbox.W004",
        )


def _counted_and_final(handler: Handler) -> Iterator[CheckMessage]:
    for kind in handler.breaker.on if handler.breaker is not None else ():
        action = action_for_kind(kind, handler.rules)
        if not isinstance(action, Retry):
            yield Error(
                f"The breaker of {handler.name} counts {kind.__name__}, but the handler's rules "
                f"make it {type(action).__name__}. So an outage would make every delivery dead "
                "(or discarded, or paused).",
                hint="Let the breaker count only exceptions that are retried.",
                obj=place(handler),
                id="outbox.E013",
            )
