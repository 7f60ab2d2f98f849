"""What a handler wants done about its failures, as its `@subscribe` says it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from math import isfinite

from .receipt import LeaseLost, PermanentFailure

#: A wait as a person writes it: seconds, or a timedelta.
Wait = float | timedelta


@dataclass(frozen=True)
class Retry:
    """Try again: after the handler's backoff, or `after` a given time and not before.

    Args:
        after: seconds or a timedelta. What the exception itself carries comes first: see
            `RetryAfter`.

    Raises:
        ValueError: `after` is negative or no number.
    """

    after: Wait | None = None

    def __post_init__(self) -> None:
        if self.after is not None and _seconds(self.after) is None:
            raise ValueError(f"Retry(after={self.after!r}): seconds, or a timedelta, of 0 or more.")


@dataclass(frozen=True)
class Dead:
    """Give up at once; a person decides. What `PermanentFailure` does without a rule."""


@dataclass(frozen=True)
class Discard:
    """Close the debt without having done anything: this event is not for this handler.

    Args:
        reason: why that is right, for whoever looks at it.

    Raises:
        ValueError: no reason is given.
    """

    reason: str

    def __post_init__(self) -> None:
        _refuse_no_reason(self, self.reason)


@dataclass(frozen=True)
class Pause:
    """Pause the handler: nothing of it can succeed until a person has done something.

    The delivery is parked with all others, and its attempts are not used up.

    Args:
        reason: what a person has to do.

    Raises:
        ValueError: no reason is given.
    """

    reason: str

    def __post_init__(self) -> None:
        _refuse_no_reason(self, self.reason)


@dataclass(frozen=True, kw_only=True)
class Breaker:
    """Hold a handler while the other side is down, instead of using up its deliveries' attempts.

    After `failures` of these kinds without a success between them, nothing of the handler is sent
    but a probe: one delivery, after `wait`, and after twice as long each time it fails. A probe
    that meets no such failure lets everything go on, a little at first.

    Args:
        on: exception classes that mean "the other side is down"; their subclasses too.
        failures: how many, across deliveries and workers, open it.
        wait: seconds or a timedelta until the first probe.
        longest: the longest wait between two probes.

    Raises:
        ValueError: a number that makes no sense.
        TypeError: `on` has something else than exception classes, or nothing.
    """

    on: tuple[type[Exception], ...]
    failures: int = 5
    wait: Wait = 30
    longest: Wait = 900

    def __post_init__(self) -> None:
        given: object = self.on
        if not isinstance(given, tuple) or not given or not all(map(_is_exception, given)):
            raise TypeError(f"Breaker(on={self.on!r}): a tuple of exception classes.")
        if self.failures < 1:
            raise ValueError(f"Breaker(failures={self.failures}): one or more.")
        if not 0 < self.wait_seconds <= self.longest_seconds:
            told = f"Breaker(wait={self.wait}, longest={self.longest})"
            raise ValueError(f"{told}: wait must be above zero and not above longest.")

    @property
    def wait_seconds(self) -> float:
        """The first wait in seconds."""
        return _seconds(self.wait) or 0

    @property
    def longest_seconds(self) -> float:
        """The longest wait in seconds."""
        return _seconds(self.longest) or 0


Action = Retry | Dead | Discard | Pause
Rules = Mapping[type[Exception], Action]

DEFAULT_RULES: Rules = {PermanentFailure: Dead(), Exception: Retry()}


class RetryAfter(Exception):
    """Raise it, or any exception with an attribute `retry_after`, to say when to try again.

    The attempt counts as any other that failed.

    Attributes:
        retry_after: seconds or a timedelta, at most a week.
    """

    def __init__(self, retry_after: Wait, message: str = "") -> None:
        super().__init__(message or f"Asked to come back after {retry_after} s.")
        self.retry_after = retry_after


def action_for(error: BaseException, rules: Rules) -> Action:
    """Return what the rules say about an exception: the class nearest to its own decides."""
    return action_for_kind(type(error), rules)


def action_for_kind(kind: type[BaseException], rules: Rules) -> Action:
    """Return what the rules say about exceptions of a class."""
    for one in kind.__mro__:
        for known in (rules, DEFAULT_RULES):
            if one in known:
                return known[one]
    return Retry()


def wait_of(error: BaseException, action: Retry) -> timedelta | None:
    """Return the given time after which to try again; None: the handler's backoff."""
    for asked in (getattr(error, "retry_after", None), action.after):
        seconds = None if asked is None else _seconds(asked)
        if seconds is not None:
            return min(timedelta(seconds=min(seconds, 1e9)), _LONGEST_WAIT)
    return None


def refuse_bad_rules(name: str, rules: Rules) -> None:
    """Raise TypeError for rules that could never apply, or say nothing."""
    for kind, action in rules.items():
        if not _is_exception(kind):
            raise TypeError(f"{name}: rules={{{kind!r}: ...}}: a rule is about an exception class.")
        if issubclass(kind, LeaseLost):
            raise TypeError(f"{name}: {kind.__name__} obeys no rule: another worker has it.")
        if not isinstance(action, Action):
            raise TypeError(
                f"{name}: rules={{{kind.__name__}: {action!r}}}: say Retry(), Dead(), "
                'Discard("why") or Pause("why").'
            )


def refuse_bad_numbers(name: str, **given: object) -> None:
    """Raise ValueError for a number that no policy can have; None: it is not given."""
    for option, value in given.items():
        fits, proper = _NUMBERS[option]
        if value is not None and not fits(value):
            raise ValueError(f"{name}: {option}={value!r}: {proper}.")


_LONGEST_WAIT = timedelta(days=7)


def _is_exception(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, Exception)


def _seconds(wait: object) -> float | None:
    if isinstance(wait, timedelta):
        wait = wait.total_seconds()
    if isinstance(wait, bool) or not isinstance(wait, int | float):
        return None
    return float(wait) if isfinite(wait) and wait >= 0 else None


def _refuse_no_reason(action: object, reason: object) -> None:
    if not (isinstance(reason, str) and reason.strip()):
        raise ValueError(f"{type(action).__name__} needs a reason, in words.")


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _is_wait(value: object) -> bool:
    return not isinstance(value, timedelta) and _seconds(value) is not None


def _is_span(value: object) -> bool:
    return _is_wait(value) and value != 0


_WHOLE = "a whole number of 1 or more"

#: Of each number of a policy, what it must be, and what to write.
_NUMBERS: Mapping[str, tuple[Callable[[object], bool], str]] = {
    "batch": (_is_whole, _WHOLE),
    "window": (_is_whole, _WHOLE),
    "share_window": (_is_whole, _WHOLE),
    "attempts": (_is_whole, f"{_WHOLE}, or None: no last one"),
    "lease": (_is_span, "seconds, above zero"),
    "time_limit": (_is_span, "seconds, above zero"),
    "backoff_base": (_is_wait, "seconds, 0 or more"),
    "backoff_cap": (_is_wait, "seconds, 0 or more"),
}
