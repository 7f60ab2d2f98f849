"""The arguments and options of a stored call: which are stored, dropped or refused, and as what.

Names and meanings of the options are those of `celery.app.task.Task.apply_async`.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from celery.utils.time import maybe_make_aware
from kombu.compression import get_encoder
from kombu.utils.json import dumps

#: Options without data of the project. All others are stored as sensitive.
_PLAIN = frozenset(
    {
        *("queue", "exchange", "routing_key", "priority", "delivery_mode", "compression"),
        *("expires", "time_limit", "soft_time_limit", "ignore_result", "route_name"),
        *("immediate", "mandatory", "group_id", "group_index", "root_id", "parent_id"),
        *("reply_to", "replaced_task_nesting"),
    }
)

#: Options about the act of sending, which the outbox does later with its own connection and
#: retries. Celery's canvas passes `producer` and `add_to_parent`.
_DROPPED = frozenset({"producer", "add_to_parent", "retry", "retry_policy", "retries"})

_REFUSED = {
    "connection": "The task is sent later, with a connection of the outbox. Remove it.",
    "publisher": "The task is sent later, with a connection of the outbox. Remove it.",
    "router": "The task is sent later, by another process. Use the setting task_routes.",
    "chord": (
        "A chord counts the messages of its tasks, and a stored call may be sent twice. Give the "
        "tasks of the chord's header another base, and start the chord in a task with the base "
        "OutboxTask."
    ),
}


class RefusedOption(ValueError):
    """An option of a call cannot be kept until the commit."""


@dataclass(frozen=True)
class StoredOptions:
    """The options of a call, as JSON values.

    Attributes:
        plain: without data of the project.
        embedded: headers, signatures and options that Celery passes to the broker's client.
        delay: time until the task is due.
    """

    plain: dict[str, Any]
    embedded: dict[str, Any]
    delay: timedelta | None


def stored_options(
    task: str, given: Mapping[str, Any], *, now: datetime, zone: Any
) -> StoredOptions:
    """Return the options of a call as they are stored.

    Args:
        task: name of the task, for errors.
        given: options of `apply_async`, with those of the task. None means "not given".
        now: the present time, from which `countdown` and a number in `expires` count.
        zone: time zone of the Celery app, for datetimes without one.

    Raises:
        RefusedOption: an option cannot be kept until the commit. The text names the next step.
        TypeError: a value is not JSON.
    """
    options = {name: value for name, value in given.items() if value is not None}
    _refuse(task, options)
    eta, countdown = options.pop("eta", None), options.pop("countdown", None)
    delay = _delay(task, eta, countdown, now=now, zone=zone)
    if "expires" in options:
        options["expires"] = _expires(task, options["expires"], now=now, zone=zone)
    kept = {name: value for name, value in options.items() if name not in _DROPPED}
    kept = {name: as_json(task, f"the option {name}", value) for name, value in kept.items()}
    plain = {name: value for name, value in kept.items() if name in _PLAIN}
    return StoredOptions(
        plain=plain,
        embedded={name: value for name, value in kept.items() if name not in plain},
        delay=delay,
    )


def _refuse(task: str, options: dict[str, Any]) -> None:
    for name, reason in _REFUSED.items():
        if name in options:
            raise RefusedOption(f"{task}: the option {name} is refused. {reason}")
    serializer = options.pop("serializer", "json")
    if serializer != "json":
        raise RefusedOption(
            f"{task}: serializer={serializer!r} is refused. A stored call is JSON. Remove the "
            "option, and pass only values that JSON can contain."
        )
    for name in ("queue", "exchange"):
        if not isinstance(options.get(name, ""), str):
            raise RefusedOption(
                f"{task}: the option {name} is {options[name]!r}, which is refused. Pass its name, "
                "and declare it in the setting task_queues."
            )
    _refuse_unsendable(task, options)


def _refuse_unsendable(task: str, options: Mapping[str, Any]) -> None:
    """Refuse values that no attempt to send could use."""
    if not isinstance(options.get("headers", {}), Mapping):
        raise RefusedOption(
            f"{task}: the option headers is a {type(options['headers']).__name__}, and no dict. "
            "Pass a dict of texts."
        )
    if not isinstance(options.get("priority", 0), int):
        raise RefusedOption(
            f"{task}: the option priority is {options['priority']!r}, and no whole number. Pass "
            "one that the broker knows, such as 0 to 9."
        )
    try:
        get_encoder(options.get("compression", "zlib"))
    except KeyError:
        raise RefusedOption(
            f"{task}: the option compression is {options['compression']!r}, which is unknown here. "
            "Install its library, or remove the option."
        ) from None


def _delay(task: str, eta: Any, countdown: Any, *, now: datetime, zone: Any) -> timedelta | None:
    """Return the time until the task is due; None if it is due. A countdown wins, as in Celery."""
    if countdown:
        with _time_of(task, "countdown", countdown):
            due = now + timedelta(seconds=countdown)
    elif eta:
        with _time_of(task, "eta", eta):
            due = _moment(eta, zone=zone)
    else:
        return None
    wait = due - now
    return wait if wait > timedelta(0) else None


def _expires(task: str, given: Any, *, now: datetime, zone: Any) -> str:
    with _time_of(task, "expires", given):
        if isinstance(given, int | float):
            return (now + timedelta(seconds=given)).isoformat()
        return _moment(given, zone=zone).isoformat()


@contextmanager
def _time_of(task: str, option: str, given: Any) -> Iterator[None]:
    try:
        yield
    except (TypeError, ValueError, AttributeError, OverflowError) as error:
        kinds = "seconds" if option == "countdown" else "a datetime, or its ISO 8601 text"
        raise RefusedOption(
            f"{task}: the option {option} is {given!r}, which is no time ({error}). Pass {kinds}, "
            "before the year 9999."
        ) from error


def _moment(given: Any, *, zone: Any) -> datetime:
    moment = datetime.fromisoformat(given) if isinstance(given, str) else given
    aware: datetime = maybe_make_aware(moment, tz=zone)
    return aware


def stored_arguments(
    task: str, function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> tuple[list[Any], dict[str, Any]]:
    """Return the arguments of a call as JSON values.

    Values of kombu's JSON (datetime, date, time, UUID, Decimal) keep their types in the worker.

    Raises:
        TypeError: a value is not JSON. The text names the argument.
    """
    names = _names(function)
    stored = [
        as_json(task, f"the argument {next(names, number)}", value)
        for number, value in enumerate(args, start=1)
    ]
    named = {name: as_json(task, f"the argument {name}", one) for name, one in kwargs.items()}
    return stored, named


def _names(function: Callable[..., Any]) -> Iterator[str]:
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD):
            yield parameter.name


def as_json(task: str, what: str, value: Any) -> Any:
    """Return a value as plain JSON values, in the form in which Celery's JSON serializer sends it.

    Raises:
        TypeError: JSON cannot contain it.
    """
    try:
        return json.loads(dumps(value))
    except (TypeError, ValueError, RecursionError) as error:
        raise TypeError(
            f"{task}: {what} is not JSON: {error}. Pass the id of a row instead of an object, and "
            "a list instead of a set."
        ) from error


def refuse_large(task: str, parts: Sequence[Any], *, most: int) -> None:
    """Raise ValueError if the parts of a call have more than `most` bytes of JSON."""
    size = sum(len(json.dumps(part)) for part in parts)
    if size > most:
        raise ValueError(
            f"{task}: arguments and options of the call have {size:,} bytes, and at most {most:,} "
            "are stored. Store the data in a row and pass its id, or raise max_bytes of the task."
        )
