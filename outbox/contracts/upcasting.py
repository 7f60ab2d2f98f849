"""@upcast: read events that an older release stored in the current version.

The stored payload never changes; each read converts it. A step leads from one version to the next,
and the steps form a chain up to the version of the event's class.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic_core import to_json

from outbox import events
from outbox.events import DomainEvent
from outbox.receipt import PermanentFailure

if TYPE_CHECKING:
    from outbox.privacy.sensitive import StoredEvent

#: Converts the payload of one version to the next. Pure: it reads only its argument.
Step = Callable[[dict[str, Any]], dict[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Upcaster:
    """One step of an event's chain: `function` returns version `from_version + 1`."""

    event: str
    from_version: int
    function: Step


#: All upcasters in the order of registration; a system check reports two for one step.
registry: list[Upcaster] = []


class NotUpcast(PermanentFailure):
    """No chain of upcasters leads from a stored event's version to the current one."""


def upcast(event: str | type[DomainEvent], *, from_version: int) -> Callable[[Step], Step]:
    """Convert stored events of one version to the next, whenever they are read.

    In your app's `events.py`, below the class whose `version` you raised::

        @upcast("parcels.ParcelSent", from_version=1)
        def weigh_in_grams(payload: dict[str, Any]) -> dict[str, Any]:
            return {**payload, "weight_in_grams": payload["weight_in_kilos"] * 1000}

    The function takes a copy of the payload as JSON values and returns the whole payload of version
    `from_version + 1`. It must be pure: no database, no clock. `manage.py check` finds gaps, and
    `manage.py outbox rehearse` runs it on all owed events.

    Args:
        event: the event's name, "app.ClassName". Its class stands for the name.
        from_version: the version that it reads, from 1.

    Raises:
        TypeError: the event is neither a text nor the class of an event with a `key`, or the
            version is no whole number.
    """
    name = _event_name(event)
    if not isinstance(from_version, int):
        raise TypeError(f'@upcast("{name}"): from_version={from_version!r} is no whole number.')

    def register(function: Step) -> Step:
        step = Upcaster(event=name, from_version=from_version, function=function)
        # A reloaded module replaces its own upcasters.
        registry[:] = [one for one in registry if not _is_reloaded(one, step)]
        registry.append(step)
        return function

    return register


def steps_of(event: str) -> dict[int, Upcaster]:
    """Return an event's upcasters by the version that they read."""
    return {one.from_version: one for one in registry if one.event == event}


def is_newer(event: StoredEvent) -> bool:
    """Return whether a stored event is of a version that only a later release can read."""
    known = events.find(event.name)
    return known is not None and event.version > known.event_version


def current_payload(event: StoredEvent) -> dict[str, Any]:
    """Return a stored event's payload in the current version. The stored one does not change.

    The payload of an event that this code does not declare is returned as it was stored.

    Raises `NotUpcast` if a step is missing, fails, or does not return a dictionary.
    """
    known = events.find(event.name)
    if known is None or event.version >= known.event_version:
        return dict(event.payload)
    steps = steps_of(event.name)
    payload = deepcopy(dict(event.payload))
    for version in range(event.version, known.event_version):
        if version not in steps:
            raise NotUpcast(
                f"{event.name} is stored as version {event.version}, and this code reads version "
                f"{known.event_version}. There is no @upcast from version {version}."
            )
        payload = _take(steps[version], payload)
    return payload


def as_event(known: type[DomainEvent], payload: Mapping[str, Any]) -> DomainEvent:
    """Return a payload of the current version, as JSON values, as an instance of its class.

    Its computed fields are left out. Raises pydantic's `ValidationError` if it does not fit.
    """
    computed = known.model_computed_fields
    fields = {name: value for name, value in payload.items() if name not in computed}
    # Read as JSON, like the arguments of a handler, a value also fits a strict type.
    return known.model_validate_json(to_json(fields), by_name=True)


def _event_name(event: object) -> str:
    """Return the name of an event that `@upcast` was given: a text, or an event's class."""
    if isinstance(event, str):
        return event
    if isinstance(event, type) and issubclass(event, DomainEvent):
        if event.event_name:
            return event.event_name
        raise TypeError(
            f"@upcast({event.__name__}): {event.__name__} is abstract and is never stored. Declare "
            "its key, or upcast its subclasses."
        )
    raise TypeError(
        f"@upcast({event!r}): an event is a text or a class. Write its name, "
        '@upcast("orders.OrderPlaced", from_version=1).'
    )


def _take(step: Upcaster, payload: dict[str, Any]) -> dict[str, Any]:
    try:
        made = step.function(payload)
    except Exception as error:
        raise NotUpcast(
            f"The upcaster {step.function.__name__} of {step.event} from version "
            f"{step.from_version} raised {type(error).__name__}."
        ) from error
    if not isinstance(made, dict):
        raise NotUpcast(
            f"The upcaster {step.function.__name__} returned {type(made).__name__}, not a dict."
        )
    return made


def _is_reloaded(one: Upcaster, other: Upcaster) -> bool:
    return (one.event, one.from_version) == (other.event, other.from_version) and (
        one.function.__module__,
        one.function.__qualname__,
    ) == (other.function.__module__, other.function.__qualname__)
