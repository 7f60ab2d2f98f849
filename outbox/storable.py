"""Refuse text and numbers that not every database can store, before anything is written.

PostgreSQL stores no NUL and no half of a surrogate pair in a text, no NaN in JSON, and no text
longer than its column. SQLite stores them all. A project on SQLite would find such errors late.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from django.core.serializers.json import DjangoJSONEncoder

from .receipt import PermanentFailure

#: Levels of lists and objects. The JSON parser of a handler's arguments ends at 200.
_DEEPEST = 100
_SHORT = 40
#: As Django's JSONField encodes.
_encode = DjangoJSONEncoder().encode
#: In the encoder's ASCII text: NUL, a surrogate, and numbers that JSON does not have.
_SIGNS = ("\\u0000", "\\ud", "NaN", "Infinity")


class UnstorableValue(PermanentFailure, ValueError):
    """A value of an event cannot be stored. Raised in a handler, it is a permanent failure."""


def storable_payload(facts: Mapping[str, Any], *, lengths: Mapping[str, int]) -> str:
    """Return the payload of an event as JSON text; refuse facts that a database cannot store.

    Args:
        facts: values by the names of the event's fields: `name`, `key`, `payload`, ...
        lengths: the largest number of characters of each text.

    Raises:
        UnstorableValue: its message names the event, the field and the problem.
    """
    for field, limit in lengths.items():
        value = facts.get(field)
        if isinstance(value, str) and len(value) > limit:
            _refuse(facts, field, f"has {len(value)} characters, and {limit} at most can be stored")
    text = _encode(facts["payload"])
    if not (_is_plain_json(text) and all(map(_is_plain, facts.values()))):
        refuse_unstorable(facts)
    return text


def refuse_unstorable(facts: Mapping[str, Any]) -> None:
    """Refuse facts with a text or number that not every database can store.

    Args:
        facts: values by their names; `name` is that of the whole, for the error.

    Raises:
        UnstorableValue: its message names the whole, the value and the problem.
    """
    for path, problem in _problems(facts):
        _refuse(facts, path.removeprefix("payload."), problem)


def storable_text(text: str) -> str:
    """Return a text with everything escaped that not every database can store."""
    return text.encode("utf-8", "backslashreplace").decode().replace("\x00", "\\x00")


def _refuse(facts: Mapping[str, Any], path: str, problem: str) -> None:
    raise UnstorableValue(f"{facts['name']} cannot be stored: {path} {problem}.")


def _is_plain_json(text: str) -> bool:
    """Return whether JSON text has no sign of a problem: a few searches instead of a walk."""
    brackets = text.count("{") + text.count("[")
    return brackets < _DEEPEST and not any(sign in text for sign in _SIGNS)


def _is_plain(value: object) -> bool:
    return not isinstance(value, str) or (value.isascii() and "\x00" not in value)


def _problems(value: object, path: str = "", depth: int = 0) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        if problem := _problem_of(value):
            yield path, problem
    elif isinstance(value, float):
        if not math.isfinite(value):
            yield path, f"is {value}, which JSON does not have"
    elif depth > _DEEPEST:
        yield f"{path[:_SHORT]}...", f"is nested more than {_DEEPEST} levels deep"
    elif isinstance(value, Mapping):
        for name, one in value.items():
            if isinstance(name, str) and (problem := _problem_of(name)):
                yield path, f"has a name that {problem}"
            yield from _problems(one, f"{path}.{name}" if path else str(name), depth + 1)
    elif isinstance(value, list):
        for number, one in enumerate(value):
            yield from _problems(one, f"{path}[{number}]", depth + 1)


def _problem_of(text: str) -> str:
    if "\x00" in text:
        return "contains NUL (U+0000)"
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            return f"contains U+{ord(text[error.start]):04X}, half of a surrogate pair"
    return ""
