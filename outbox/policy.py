"""The failure policy of a handler: the rules, breaker and numbers of its `@subscribe`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from math import isfinite
from typing import TypeGuard

from .receipt import LeaseLost, PermanentFailure

#: A wait in a policy: seconds, or a timedelta.
Wait = float | timedelta


@dataclass(frozen=True)
class Retry:
    """Try again: after the handler's backoff, or not before a given time.

    Args:
        after: seconds or a timedelta, at most a week. An exception's own `retry_after` has
            precedence: see `RetryAfter`.

    Raises:
        ValueError: `after` is negative, more than a week, or not a number.
    """

    after: Wait | None = None

    def __post_init__(self) -> None:
        if self.after is None:
            return
        seconds = _seconds(self.after)
        if seconds is None or seconds > _LONGEST_WAIT.total_seconds():
            raise ValueError(
                f"Retry(after={self.after!r}): use seconds or a timedelta, 0 or more and at most a "
                "week."
            )


@dataclass(frozen=True)
class Dead:
    """Make the delivery dead at once: a person decides. `PermanentFailure` has this by default."""


@dataclass(frozen=True)
class Discard:
    """Settle the delivery without an effect: the handler does not need this event.

    Args:
        reason: why no effect is needed. Staff read it at the delivery.

    Raises:
        ValueError: no reason is given.
    """

    reason: str

    def __post_init__(self) -> None:
        _refuse_no_reason(self, self.reason)


@dataclass(frozen=True)
class Pause:
    """Pause the handler: no delivery can succeed until a person has acted.

    The delivery is parked with all others of the handler. The attempt is not counted.

    Args:
        reason: the action that a person has to take.

    Raises:
        ValueError: no reason is given.
    """

    reason: str

    def __post_init__(self) -> None:
        _refuse_no_reason(self, self.reason)


@dataclass(frozen=True, kw_only=True)
class Breaker:
    """Hold a handler while an external system is down, so that no attempts are used up.

    After `failures` of these kinds without a success between them, the breaker opens. The relay
    then sends only probes of the handler: one delivery after `wait`. The wait doubles with each
    failed probe. A probe without such a failure closes the breaker; the window then grows back.

    Args:
        on: exception classes that mean "the external system is down", including subclasses.
        failures: number of failures, across deliveries and workers, that opens the breaker.
        wait: seconds or a timedelta until the first probe.
        longest: longest wait between two probes.

    Raises:
        ValueError: a number is out of range.
        TypeError: `on` is empty, or contains something other than exception classes.
    """

    on: tuple[type[Exception], ...]
    failures: int = 5
    wait: Wait = 30
    longest: Wait = 900

    def __post_init__(self) -> None:
        given: object = self.on
        if not isinstance(given, tuple) or not given or not all(map(_is_exception, given)):
            raise TypeError(f"Breaker(on={self.on!r}): use a tuple of exception classes.")
        if self.failures < 1:
            raise ValueError(f"Breaker(failures={self.failures}): use 1 or more.")
        if not 0 < self.wait_seconds <= self.longest_seconds:
            shown = f"Breaker(wait={self.wait}, longest={self.longest})"
            raise ValueError(f"{shown}: wait must be above zero and not above longest.")

    @property
    def wait_seconds(self) -> float:
        """The first wait in seconds."""
        return _seconds(self.wait) or 0

    @property
    def longest_seconds(self) -> float:
        """The longest wait in seconds."""
        return _seconds(self.longest) or 0


@dataclass(frozen=True, kw_only=True)
class SettledBy:
    """The systems that report each event of a handler as settled, after its delivery is done.

    Args:
        consumers: their names, without a comma.
        seconds: time from the acknowledgement to the deadline.
        replays: how often a missed deadline requests another publication. After the last one the
            delivery is dead.
    """

    consumers: tuple[str, ...]
    seconds: float = 300.0
    replays: int = 3


Action = Retry | Dead | Discard | Pause
Rules = Mapping[type[Exception], Action]


class RetryAfter(Exception):
    """Raise it, or any exception with an attribute `retry_after`, to set the next attempt's time.

    The attempt counts as a failed one.

    Attributes:
        retry_after: seconds or a timedelta, at most a week.
    """

    def __init__(self, retry_after: Wait, message: str = "") -> None:
        super().__init__(message or f"Retry after {retry_after} s.")
        self.retry_after = retry_after


class NotCalled(Exception):
    """Raise it if a handler has not called its external system, so nothing is known about it.

    The failure uses up no attempt, and neither opens nor closes the handler's breaker.

    Attributes:
        retry_after: seconds or a timedelta until the next attempt, at most a week; None: by the
            handler's backoff.
    """

    def __init__(self, message: str, *, retry_after: Wait | None = None) -> None:
        super().__init__(message)
        if retry_after is not None:
            self.retry_after = retry_after


#: A rule for `Exception` must not make a delivery dead whose handler has called nothing.
DEFAULT_RULES: Rules = {PermanentFailure: Dead(), NotCalled: Retry(), Exception: Retry()}


def action_for(error: BaseException, rules: Rules) -> Action:
    """Return the action for an exception: the rule of its nearest class applies."""
    return action_for_kind(type(error), rules)


def action_for_kind(kind: type[BaseException], rules: Rules) -> Action:
    """Return the action for exceptions of a class."""
    for one in kind.__mro__:
        for known in (rules, DEFAULT_RULES):
            if one in known:
                return known[one]
    return Retry()


def wait_of(error: BaseException, action: Retry) -> timedelta | None:
    """Return the wait that the exception or the rule sets. None: the handler's backoff."""
    for given in (_retry_after(error), action.after):
        seconds = None if given is None else _seconds(given)
        if seconds is not None:
            return min(timedelta(seconds=min(seconds, 1e9)), _LONGEST_WAIT)
    return None


def _retry_after(error: BaseException) -> object:
    """Return the exception's `retry_after`; None where reading it raises, as a property may."""
    try:
        return getattr(error, "retry_after", None)
    except Exception:
        return None


def refuse_bad_rules(name: str, rules: Rules) -> None:
    """Raise TypeError for rules that could never apply, or have no valid action."""
    for kind, action in rules.items():
        if not _is_exception(kind):
            raise TypeError(f"{name}: rules={{{kind!r}: ...}}: use an exception class as key.")
        if issubclass(kind, LeaseLost):
            raise TypeError(
                f"{name}: a rule for {kind.__name__} has no effect, because another worker has "
                "the delivery. Remove the rule."
            )
        if not isinstance(action, Action):
            raise TypeError(
                f"{name}: rules={{{kind.__name__}: {action!r}}}: use Retry(), Dead(), "
                'Discard("reason") or Pause("reason").'
            )


def refuse_bad_numbers(name: str, **given: object) -> None:
    """Raise ValueError for a number out of range. None means that the option is not given."""
    for option, value in given.items():
        fits, proper = _NUMBERS[option]
        if value is not None and not fits(value):
            raise ValueError(f"{name}: {option}={value!r} must be {proper}.")


_LONGEST_WAIT = timedelta(days=7)

#: No number of seconds in a policy is larger: a year. `timedelta` and the database have limits.
_MAX_SECONDS = 366 * 86400.0


def _is_exception(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, Exception)


def _seconds(wait: object) -> float | None:
    if isinstance(wait, timedelta):
        wait = wait.total_seconds()
    if isinstance(wait, bool) or not isinstance(wait, int | float):
        return None
    try:
        seconds = float(wait)
    except OverflowError:  # an int of hundreds of digits, as a header may bring
        seconds = _MAX_SECONDS if wait > 0 else -1.0
    return seconds if isfinite(seconds) and seconds >= 0 else None


def _refuse_no_reason(action: object, reason: object) -> None:
    if not (isinstance(reason, str) and reason.strip()):
        raise ValueError(f"{type(action).__name__} needs a reason that is not empty.")


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _is_wait(value: object) -> bool:
    if isinstance(value, timedelta):
        return False
    seconds = _seconds(value)
    return seconds is not None and seconds <= _MAX_SECONDS


def is_span(value: object) -> TypeGuard[float]:
    """Return whether it is a number of seconds above zero, at most a year."""
    return _is_wait(value) and value != 0


_WHOLE = "a whole number of 1 or more"

#: The valid values of each number of a policy: a predicate, and a description for the error.
_NUMBERS: Mapping[str, tuple[Callable[[object], bool], str]] = {
    "batch": (_is_whole, _WHOLE),
    "window": (_is_whole, _WHOLE),
    "share_window": (_is_whole, _WHOLE),
    "attempts": (_is_whole, f"{_WHOLE}, or None for no limit"),
    "lease": (is_span, "a number of seconds above zero, at most a year"),
    "time_limit": (is_span, "a number of seconds above zero, at most a year"),
    "backoff_base": (_is_wait, "a number of seconds of 0 or more, at most a year"),
    "backoff_cap": (_is_wait, "a number of seconds of 0 or more, at most a year"),
}
