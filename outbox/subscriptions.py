"""@subscribe: the registry of handlers, their events, their policy and their arguments."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Coroutine, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal, TypeVar, get_args, get_type_hints

from asgiref.sync import iscoroutinefunction
from pydantic import TypeAdapter, ValidationError
from pydantic_core import to_json

from . import tenants
from .conf import Conf, conf
from .events import (
    FACTS,
    LONGEST_SELECTOR,
    SEPARATOR,
    DomainEvent,
    app_label,
    is_pattern,
    selects,
)
from .policy import Breaker, Rules, SettledBy, is_span, refuse_bad_numbers, refuse_bad_rules
from .receipt import PermanentFailure, Target

OnDead = Literal["hold", "pass"]
_Targets = Iterable[str | Target]
#: Returns the targets of an event. Its parameters are like those of a handler. It may be async.
TargetsFunction = Callable[..., _Targets | Coroutine[Any, Any, _Targets]]

#: A handler that hangs is interrupted before its lease passes. So it does not look like a dead
#: worker.
_LIMIT_WITHIN_LEASE = 0.9

#: Most characters of a handler's name and of its queue: those of the columns that store them.
LONGEST_NAME = 150
LONGEST_QUEUE = 100

Function = TypeVar("Function", bound=Callable[..., Coroutine[Any, Any, None] | None])


@dataclass(frozen=True, kw_only=True)
class Handler:
    """A function subscribed to events, with its policy. `@subscribe` creates it."""

    name: str
    function: Callable[..., object]
    events: tuple[str, ...]
    formerly: tuple[str, ...]
    atomic: bool
    shared_transaction: bool
    inline: bool
    queue: str
    batch: int
    window: int
    share_window: int | None
    lease: float
    attempts: int | None
    backoff_base: float
    backoff_cap: float
    time_limit: float
    rules: Rules
    breaker: Breaker | None
    ordered: bool
    on_dead: OnDead
    bulk: bool = False
    targets: TargetsFunction | None = None
    settled_by: SettledBy | None = None

    @property
    def has_patterns(self) -> bool:
        """Whether it subscribes to events by pattern, as "orders.*"."""
        return any(map(is_pattern, self.events))

    @cached_property
    def selectors(self) -> tuple[str, ...]:
        """The `event` of each of its subscriptions.

        A handler with patterns or targets and a bulk handler have one subscription for all events.
        So a message may hold deliveries of any of them, and no event has two deliveries.
        """
        if self.bulk or self.has_patterns or self.targets:
            return (SEPARATOR.join(self.events),)
        return self.events

    def handles(self, event: str) -> bool:
        """Return whether it subscribes to the event with this name."""
        return any(selects(selector, event) for selector in self.selectors)

    @cached_property
    def is_async(self) -> bool:
        """Whether a call returns a coroutine: the function is declared by `async def`."""
        # `__call__` of an object; that of a function is the interpreter's.
        return any(map(iscoroutinefunction, (self.function, type(self.function).__call__)))

    @property
    def app_label(self) -> str:
        """The label of the app that the function belongs to."""
        return app_label(self.function.__module__)

    @cached_property
    def parameters(self) -> Mapping[str, inspect.Parameter]:
        """The function's parameters by name."""
        return inspect.signature(self.function).parameters

    @cached_property
    def types(self) -> dict[str, Any]:
        """The parameters' types by name, resolved."""
        hints = get_type_hints(self.function, include_extras=True)
        return {name: hints.get(name, Any) for name in self.parameters}

    @cached_property
    def finder(self) -> Handler | None:
        """A handler whose parameters are those of `targets`, for checks; None without targets."""
        return replace(self, function=self.targets, targets=None) if self.targets else None

    @property
    def fields(self) -> dict[str, Any]:
        """The types of those parameters that are fields of the event, by name."""
        return {name: kind for name, kind in self.types.items() if name not in FACTS}

    def arguments(self, *, payload: Mapping[str, Any], facts: Mapping[str, Any]) -> dict[str, Any]:
        """Build the call's arguments in the handler's own types (a tolerant reader).

        Raises `PermanentFailure` if the stored event does not fit these types.
        """
        given = {name: facts[name] for name in self.parameters if name in facts}
        for name, adapter in self._adapters.items():
            if name in payload:
                given[name] = self._read(adapter, name, payload[name])
            elif self.parameters[name].default is inspect.Parameter.empty:
                raise PermanentFailure(f"{self.name} needs {name}, which the event does not have.")
        return given

    @cached_property
    def _adapters(self) -> dict[str, TypeAdapter[Any]]:
        return {name: TypeAdapter(kind) for name, kind in self.fields.items()}

    def _read(self, adapter: TypeAdapter[Any], name: str, value: Any) -> Any:
        try:
            # The stored value is JSON. Read as JSON, it also fits strict types of the consumer.
            # It is stored by the names of fields: a model with aliases may be the event's own.
            return adapter.validate_json(to_json(value), by_name=True)
        except ValidationError as error:
            raise PermanentFailure(f"{self.name} cannot read {name}: {error}") from error


#: All handlers in registration order. Two with one name are both kept: the check reports them.
registry: list[Handler] = []


def subscribe(
    *events: str | type[DomainEvent],
    name: str = "",
    formerly: Iterable[str] = (),
    atomic: bool = True,
    shared_transaction: bool = True,
    inline: bool = False,
    queue: str = "",
    batch: int | None = None,
    window: int | None = None,
    share_window: int | None = None,
    lease: float | None = None,
    attempts: int | Literal["default"] | None = "default",
    backoff_base: float | None = None,
    backoff_cap: float | None = None,
    time_limit: float | None = None,
    rules: Rules | None = None,
    breaker: Breaker | None = None,
    ordered: bool = False,
    on_dead: OnDead = "hold",
    bulk: bool = False,
    targets: TargetsFunction | None = None,
    settled_by: SettledBy | None = None,
) -> Callable[[Function], Function]:
    """Subscribe the decorated function to events, by name or class.

    The function may be declared by `async def`. Its coroutine runs on an event loop, and Django's
    asynchronous ORM methods use the transaction of the delivery.

    Its parameters are event fields, in the handler's own types, and any of the event's facts:
    `event_id`, `emitted_at`, `correlation_id`, `causation_id`, `actor`, `key`, `attempt`,
    `receipt`, `event`. `manage.py check` compares them with the fields that the producer declares.

    `@subscribe("orders.*")` subscribes to all events of an app, `@subscribe("*")` to the events of
    apps, also of apps that are added later. Such a handler takes `event: EventRecord`, no fields.

    The handler's pinned name is app label + function name. Its deliveries are stored under it.
    If you rename the function, keep the old name with `name=` or list it in `formerly=`.

    Args:
        events: one or more names, "app.ClassName", or patterns, "app.*" or "*". A class stands for
            its name: use it only for events of the handler's own app, since its module imports
            the class. A name needs no import of the producer.
        name: another pinned name.
        formerly: earlier pinned names, whose subscriptions and deliveries this handler takes over.
        atomic: run the handler in one transaction with its receipt. False for a handler that calls
            an external system: it takes `receipt: Receipt` and enters `with receipt:` around its
            effects, once.
        shared_transaction: let deliveries of one message share a transaction of about 20 ms, if
            the handler is atomic. False for contended rows: they are then unlocked sooner.
        inline: run a delivery that would be alone in its message at once, in a thread of the
            relay's process, without the broker. For an atomic handler that is fast, and for whose
            effect a user waits. All other deliveries still go to the workers of its queue.
        queue: the Celery queue; default the app's label.
        batch: most deliveries in one message (default `OUTBOX["BATCH"]`; 1 if not atomic). More
            than 50 only as the window grows.
        window: most deliveries in flight (default `OUTBOX["WINDOW"]`). More than 500 only while a
            backlog waits and the handler is quick.
        share_window: most deliveries in flight of one share, which an event's class names with
            `share=`. Due deliveries of one share do not delay the others. Default: that of
            `OUTBOX["TENANT"]`; without tenants only the window limits them.
        lease: seconds after which a sent delivery is presumed lost (default
            `OUTBOX["LEASE_SECONDS"]`).
        attempts: attempts before the delivery is dead (default `OUTBOX["ATTEMPTS"]`). None: no
            limit, for compensations.
        backoff_base: longest wait before the second attempt, in seconds. It doubles each time.
        backoff_cap: longest wait between two attempts, in seconds.
        time_limit: seconds after which a run is interrupted and fails (default nine tenths of the
            lease). `receipt.extend()` restarts both.
        rules: actions by exception class: `Retry`, `Dead`, `Discard`, `Pause`.
        breaker: hold the handler while an external system is down.
        ordered: handle the events of one key one after the other, in the order of `seq`.
        on_dead: of an ordered handler, after a dead delivery: "hold" holds the key's later events
            until a person acts, "pass" lets them continue.
        bulk: call the function once for many deliveries, for an external system that accepts many
            messages in one request. Its only parameter is `deliveries: Sequence[BulkDelivery]`.
            It calls `done()` or `failed(error)` of each. It is not atomic, and takes no receipt.
            All its events share one subscription, so one window, breaker and pause. With `ordered`,
            no two deliveries of one call have the same key.
        targets: a function that returns the targets of an event, as texts or `Target`s. The handler
            then has one delivery for each, and takes `target: str`. The function takes fields and
            facts as a handler does. It runs in a delivery of its own, in one transaction with the
            new deliveries, and may write rows.
        settled_by: systems that report each event as settled. For the bulk handlers of sinks, whose
            setting `CONSUMERS` it is.

    Raises:
        TypeError: the function is a generator, no event is named (as with `@subscribe` without
            parentheses), an event is neither a text nor the class of an event with a `key`, the
            names of the events are too long for one subscription, `receipt` and `atomic` do not
            match, `target` and `targets` do not match, `settled_by` has no `bulk`, `inline` is
            combined with `atomic=False`, `bulk`, `targets` or `ordered`, `targets` with `ordered`,
            the function takes `*args`, `**kwargs` or positional-only parameters, a handler of a
            pattern takes fields, a bulk handler takes other parameters, `formerly` is a text, or a
            rule is invalid.
        ValueError: a number is out of range, the time limit is not shorter than the lease, the
            pinned name has more than 150 characters, the queue's name more than 100, or `on_dead`
            is another word.
    """
    names = tuple(_event_name(event) for event in events)

    def register(function: Function) -> Function:
        pinned = name or f"{app_label(function.__module__)}.{function.__name__}"
        # Given values only: `manage.py check` reports a setting that is out of range.
        refuse_bad_numbers(
            pinned,
            batch=batch,
            window=window,
            share_window=share_window,
            lease=lease,
            attempts=None if attempts == "default" else attempts,
            backoff_base=backoff_base,
            backoff_cap=backoff_cap,
            time_limit=time_limit,
        )
        if isinstance(formerly, str):
            step = f'Write a list: formerly=["{formerly}"].'
            raise TypeError(f"{pinned}: formerly= is a text. {step}")
        defaults = conf(lenient=True)
        is_atomic = atomic and not bulk
        leased = _default_lease(defaults.LEASE_SECONDS, time_limit) if lease is None else lease
        handler = Handler(
            name=pinned,
            function=function,
            events=names,
            formerly=tuple(formerly),
            atomic=is_atomic,
            shared_transaction=shared_transaction and is_atomic,
            inline=inline,
            queue=queue or app_label(function.__module__),
            batch=(defaults.BATCH if is_atomic or bulk else 1) if batch is None else batch,
            window=defaults.WINDOW if window is None else window,
            share_window=_share_window(function, names) if share_window is None else share_window,
            lease=leased,
            attempts=defaults.ATTEMPTS if attempts == "default" else attempts,
            backoff_base=defaults.BACKOFF_BASE if backoff_base is None else backoff_base,
            backoff_cap=defaults.BACKOFF_CAP if backoff_cap is None else backoff_cap,
            time_limit=leased * _LIMIT_WITHIN_LEASE if time_limit is None else time_limit,
            rules=dict(rules or {}),
            breaker=breaker,
            ordered=ordered,
            on_dead=on_dead,
            bulk=bulk,
            targets=targets,
            settled_by=settled_by,
        )
        _refuse_bad_signature(handler)
        _refuse_bad_policy(handler)
        registry.append(handler)
        return function

    return register


def _default_lease(given: object, time_limit: float | None) -> float:
    """Return the setting; if it is wrong, which `manage.py check` reports, one that fits."""
    if is_span(given):
        return given
    return max(Conf.LEASE_SECONDS, (time_limit or 0) / _LIMIT_WITHIN_LEASE)


def _share_window(function: Callable[..., object], names: Iterable[str]) -> int | None:
    """Return the share window of a handler that declares none: tenants have one.

    Tasks have none, since they are sent by priority.
    """
    are_own = any(name.startswith("outbox.") for name in names)
    return None if are_own or tenants.is_of_all(function) else tenants.share_window()


def find(name: str) -> Handler | None:
    """Return the handler with this pinned name, or None if this code has none."""
    return next((handler for handler in registry if handler.name == name), None)


def is_ordered_event(name: str) -> bool:
    """Return whether an ordered handler of this code subscribes to the event."""
    return any(handler.ordered and handler.handles(name) for handler in registry)


def queues() -> dict[str, set[str]]:
    """Return the queues of this code's handlers, by app label."""
    found: dict[str, set[str]] = {}
    for handler in registry:
        found.setdefault(handler.app_label, set()).add(handler.queue)
    return found


def _event_name(event: object) -> str:
    """Return the name of an event that `@subscribe` was given: a text, or an event's class."""
    if isinstance(event, str):
        return event
    if isinstance(event, type) and issubclass(event, DomainEvent):
        if not event.event_name:
            raise TypeError(
                f"@subscribe({event.__name__}): {event.__name__} is abstract and is never emitted. "
                f"Declare its key: class {event.__name__}({event.__bases__[0].__name__}, "
                'key="..."), or subscribe to its subclasses.'
            )
        return event.event_name
    if inspect.isroutine(event):
        raise TypeError(
            f"@subscribe above {event.__module__}.{event.__qualname__} names no event. Name one in "
            'parentheses: @subscribe("orders.OrderPlaced"). `manage.py outbox events` lists all.'
        )
    raise TypeError(
        f"@subscribe({event!r}): an event is a text or a class. Write its name, "
        '@subscribe("orders.OrderPlaced"), and several as @subscribe("app.One", "app.Two").'
    )


def _refuse_generators(handler: Handler) -> None:
    function = handler.function
    for one in (function, type(function).__call__):
        if inspect.isasyncgenfunction(one) or inspect.isgeneratorfunction(one):
            raise TypeError(
                f"{handler.name} is a generator, so a call does not run it. Remove its `yield`."
            )


def _refuse_bad_signature(handler: Handler) -> None:
    _refuse_generators(handler)
    if not handler.events:
        raise TypeError(f'{handler.name} has no event. Name one: @subscribe("app.Event").')
    _refuse_long_selectors(handler)
    _refuse_long_names(handler)
    for parameter in handler.parameters.values():
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            raise TypeError(
                f"{handler.name} takes {parameter}. Name each field that it reads instead."
            )
    if handler.bulk:
        _refuse_other_parameters(handler, {"deliveries"}, "A bulk handler takes only `deliveries`.")
        return
    if handler.has_patterns:
        reason = (
            "Its events have different fields. Take `event: EventRecord`, and read its payload."
        )
        _refuse_other_parameters(handler, FACTS, reason)
    if ("target" in handler.parameters) != (handler.targets is not None):
        raise TypeError(
            f"{handler.name}: a handler takes `target: str` if and only if it has targets=."
        )
    wants_receipt = "receipt" in handler.parameters
    if wants_receipt == handler.atomic:
        raise TypeError(
            f"{handler.name}: a handler with atomic=False takes `receipt: Receipt` and enters it. "
            "An atomic handler takes none: its receipt is stored with its effects."
        )


def _refuse_long_selectors(handler: Handler) -> None:
    longest = max(map(len, handler.selectors))
    if longest > LONGEST_SELECTOR:
        raise TypeError(
            f"{handler.name}: the names of its events have {longest} characters with separators; "
            f'the limit is {LONGEST_SELECTOR}. Use patterns, as "app.*", or several handlers.'
        )


def _refuse_long_names(handler: Handler) -> None:
    name, queue = handler.name, handler.queue
    if len(name) > LONGEST_NAME:
        raise ValueError(
            f"The name of the handler {name} has {len(name)} characters; the limit is "
            f'{LONGEST_NAME}. Pin a shorter one: @subscribe(..., name="...").'
        )
    if len(queue) > LONGEST_QUEUE:
        raise ValueError(
            f"{name}: queue={queue!r} has {len(queue)} characters; the limit is {LONGEST_QUEUE}."
        )


def _refuse_other_parameters(handler: Handler, allowed: Collection[str], reason: str) -> None:
    for name in handler.parameters:
        if name not in allowed:
            raise TypeError(f"{handler.name} takes {name}. {reason}")


def _refuse_bad_policy(handler: Handler) -> None:
    refuse_bad_rules(handler.name, handler.rules)
    if handler.inline and not handler.atomic:
        raise TypeError(
            f"{handler.name}: inline=True needs atomic=True. A handler that calls an external "
            "system may be slow. Let a worker run it: remove inline=True."
        )
    if handler.settled_by and not handler.bulk:
        raise TypeError(f"{handler.name}: settled_by= needs bulk=True.")
    if handler.targets and (handler.inline or handler.ordered):
        raise TypeError(
            f"{handler.name}: targets= cannot be combined with inline=True or ordered=True. The "
            "deliveries of one event to its targets run side by side."
        )
    if handler.inline and handler.ordered:
        raise TypeError(
            f"{handler.name}: inline deliveries may run out of order. Remove inline=True or "
            "ordered=True."
        )
    if not 0 < handler.time_limit < handler.lease:
        raise ValueError(
            f"{handler.name}: time_limit={handler.time_limit:g} must be above zero and below the "
            f"lease of {handler.lease:g} s. A run is rolled back after its lease."
        )
    if handler.on_dead not in get_args(OnDead):
        raise ValueError(f'{handler.name}: on_dead={handler.on_dead!r} must be "hold" or "pass".')
    if handler.on_dead != "hold" and not handler.ordered:
        raise ValueError(f"{handler.name}: on_dead= needs ordered=True.")
