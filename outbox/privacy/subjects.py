"""Texts that identify a person: declared by the apps that store them, read after a failure.

An event has a subject ("user:7") only if it carries personal data. Most events carry only an id,
for example of an order, and the app that owns the orders knows the customer.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

_OWN_EVENT = "outbox.SubjectRedacted"  # its key is the subject


class HasSubject(Protocol):
    """The columns of an event from which its subjects follow."""

    @property
    def name(self) -> str: ...
    @property
    def key(self) -> str: ...
    @property
    def subject(self) -> str | None: ...


class DeclarationFailed(Exception):
    """A function that was passed to `declare_subject` raised. The text has no personal data."""


@dataclass(frozen=True, kw_only=True)
class Declaration:
    """One call of `declare_subject`.

    Attributes:
        place: module and line of the call: "orders.handlers:12".
    """

    kind: str
    place: str
    values: Callable[[str], Iterable[str]]
    keys: Callable[[str], Iterable[str]] | None
    of_key: Callable[[str], str | None] | None

    @contextmanager
    def calling(self, function: str) -> Iterator[None]:
        """Convert exceptions of the block, which calls this function, to `DeclarationFailed`."""
        try:
            yield
        except Exception as error:
            raise DeclarationFailed(
                f"`{function}` of the subject {self.kind!r}, declared at {self.place}, raised "
                f"{type(error).__name__}"
            ) from error


#: All declarations in their order; several apps may declare the same kind.
registry: list[Declaration] = []


def declare_subject(
    kind: str,
    *,
    values: Callable[[str], Iterable[str]],
    keys: Callable[[str], Iterable[str]] | None = None,
    of_key: Callable[[str], str | None] | None = None,
) -> None:
    """Declare the texts that identify people of one kind, so that they are masked in failures.

    Call it in `handlers.py`. The functions are called when a delivery fails and when a subject is
    redacted. They may query the database. If one raises, the failure's text is not stored.

    Args:
        kind: the part of a subject before the colon: "user" for "user:7".
        values: takes the part after the colon; returns e-mail addresses, names and the like.
        keys: takes the same; returns keys of events about this person that declare no subject.
        of_key: takes the key of such an event; returns the part after the colon, or None.

    Raises:
        ValueError: the kind is empty or has a colon.
    """
    if not kind or ":" in kind:
        raise ValueError(f"The kind of a subject must be a word without a colon, not {kind!r}.")
    caller = sys._getframe(1)
    place = f"{caller.f_globals.get('__name__', '?')}:{caller.f_lineno}"
    registry.append(Declaration(kind=kind, place=place, values=values, keys=keys, of_key=of_key))


def values_of(subject: str) -> list[str]:
    """Return the texts that identify a subject: "user:7".

    Raises:
        DeclarationFailed: a declared function raised.
    """
    found: list[str] = []
    for one, part in _declared(subject):
        with one.calling("values"):
            found += [value for value in one.values(part) if value]
    return found


def keys_of(subject: str) -> list[str]:
    """Return the keys of events about a subject that do not declare it.

    Raises:
        DeclarationFailed: a declared function raised.
    """
    found: list[str] = []
    for one, part in _declared(subject):
        if one.keys:
            with one.calling("keys"):
                found += one.keys(part)
    return found


def subjects_of(event: HasSubject) -> set[str]:
    """Return the subjects that an event is about, whether or not it declares one.

    Raises:
        DeclarationFailed: a declared function raised.
    """
    named = {event.subject} if event.subject else set()
    if event.name == _OWN_EVENT:
        named.add(event.key)
    for one in registry:
        if one.of_key is None:
            continue
        with one.calling("of_key"):
            part = one.of_key(event.key)
        if part:
            named.add(f"{one.kind}:{part}")
    return named


def is_declared(subject: str) -> bool:
    """Return whether an app has declared the kind of a subject."""
    return any(True for _one in _declared(subject))


def _declared(subject: str) -> Iterator[tuple[Declaration, str]]:
    kind, _, part = subject.partition(":")
    for one in registry:
        if one.kind == kind and part:
            yield one, part
