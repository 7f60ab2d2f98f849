"""Possible actions: the events, and the outcomes of a relay's pass and of a handler's run."""

from __future__ import annotations

from enum import Enum

from outbox import DomainEvent


class Moved(DomainEvent, key="thing"):
    thing: str
    number: int


class Renamed(DomainEvent, key="thing"):
    thing: str
    number: int


EVENTS: dict[str, type[Moved | Renamed]] = {"tests.Moved": Moved, "tests.Renamed": Renamed}


class Relay(Enum):
    """The outcome of a pass of the relay."""

    WORKS = "works"
    DIES_AFTER_CLAIM = "dies before it sends anything"
    DIES_WHILE_SENDING = "dies when it has sent one message"
    BROKER_IS_AWAY = "the broker accepts nothing"
    BROKER_HANGS_UP = "the broker accepts a message, but does not confirm it"
    MEETS_ANOTHER = "another relay runs before it sends anything"


class Mood(Enum):
    """The outcome of a run of a handler."""

    WORKS = "works"
    FAILS = "fails"
    REFUSES = "refuses"
    FORGETS_RECEIPT = "returns without its receipt, if it is to enter one"
    IS_LOCKED_OUT = "finds the database locked"
    DIES_AT_START = "dies at the start"
    DIES_AT_RECEIPT = "dies before its receipt"
    DIES_AFTERWARDS = "dies after its receipt"
    STALLS = "stalls until its lease has passed"
    STALLS_AND_FAILS = "stalls until its lease has passed, and fails"
    IS_OVERTAKEN = "stalls until other workers have finished"


RAISING = {Mood.FAILS, Mood.STALLS_AND_FAILS, Mood.REFUSES, Mood.IS_LOCKED_OUT}
STALLING = {Mood.STALLS, Mood.STALLS_AND_FAILS, Mood.IS_OVERTAKEN}


class Died(BaseException):
    """The process died. Like a kill, it passes every `except Exception`."""


def die() -> None:
    raise Died
