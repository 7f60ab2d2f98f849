"""Read one entry of a setting like `OUTBOX["SINKS"]`, with an error for each invalid value.

An error names the setting, the cause and the next step. It never quotes the entry's options.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

from outbox.formatting import did_you_mean

#: A hundred years. The end of a longer time cannot be computed.
_LONGEST_SECONDS = 100 * 366 * 86400.0


class Entry:
    """One entry: a dict with the given keys. Each method raises `ImproperlyConfigured`.

    Args:
        place: the entry, for errors: 'OUTBOX["SINKS"]["analytics"]'.
        given: its dict.
        keys: all keys that it may have.
    """

    def __init__(self, place: str, given: object, keys: Collection[str]) -> None:
        self.place = place
        if not isinstance(given, Mapping):
            raise ImproperlyConfigured(f"{place} must be a dict.")
        self._given = given
        for key in given:
            if key not in keys:
                hint = did_you_mean(str(key), keys) or f"The keys are {', '.join(keys)}."
                raise ImproperlyConfigured(f"{place} has no key {key!r}. {hint}")

    def name(self, key: str) -> str:
        """Return the full name of one of its settings, for errors."""
        return f'{self.place}["{key}"]'

    def has(self, key: str) -> bool:
        """Return whether a value is given that is not empty."""
        return bool(self._given.get(key))

    def is_given(self, key: str) -> bool:
        """Return whether a value is given other than None, even an empty one."""
        return self._given.get(key) is not None

    def invalid(self, key: str, reason: str) -> ImproperlyConfigured:
        """Return the error for an invalid value."""
        return ImproperlyConfigured(f"{self.name(key)} is invalid: {reason}.")

    def text(self, key: str, *, default: str | None = None) -> str:
        """Return a text. Without a default it must not be empty."""
        given = self._given.get(key, default)
        if isinstance(given, str) and (given or default is not None):
            return given
        proper = "a string" if default is not None else "a string that is not empty"
        raise self.invalid(key, f"it must be {proper}")

    def texts(self, key: str, *, proper: str) -> tuple[str, ...]:
        """Return a list of texts that is not empty, without repetitions.

        Args:
            proper: description of the list, for the error.
        """
        given = self._given.get(key)
        is_list = isinstance(given, Sequence) and not isinstance(given, str | bytes)
        if not is_list or not given or not all(isinstance(one, str) for one in given):
            raise self.invalid(key, f"it must be {proper}, and not empty")
        return tuple(dict.fromkeys(given))

    def choice(self, key: str, choices: Collection[str]) -> str | None:
        """Return one of these texts, or None if it is not set."""
        given = self._given.get(key)
        if given is not None and given not in choices:
            proper = " or ".join(f'"{one}"' for one in choices)
            raise self.invalid(key, f"it must be {proper}")
        return given

    def flag(self, key: str, *, default: bool) -> bool:
        """Return True or False."""
        given = self._given.get(key, default)
        if not isinstance(given, bool):
            raise self.invalid(key, "it must be True or False")
        return given

    def whole(
        self, key: str, *, default: int | None, no_limit: bool = False, least: int = 1
    ) -> int | None:
        """Return a whole number of `least` or more. With `no_limit` it may be set to None."""
        given = self._given.get(key, default)
        if given is None and (no_limit or key not in self._given):
            return None
        if not isinstance(given, int) or isinstance(given, bool) or given < least:
            more = ", or None for no limit" if no_limit else ""
            raise self.invalid(key, f"it must be a whole number of {least} or more{more}")
        return given

    def seconds(self, key: str, *, default: float) -> float:
        """Return a number of seconds above zero, at most a hundred years."""
        return self._span(key, default, unit="seconds", longest=_LONGEST_SECONDS)

    def days(self, key: str, *, default: float) -> float:
        """Return a number of days above zero, at most a hundred years."""
        return self._span(key, default, unit="days", longest=_LONGEST_SECONDS / 86400)

    def _span(self, key: str, default: float, *, unit: str, longest: float) -> float:
        given = self._given.get(key, default)
        is_number = isinstance(given, int | float) and not isinstance(given, bool)
        if not is_number or not 0 < given <= longest:
            most = "at most a hundred years"
            raise self.invalid(key, f"it must be a number of {unit} above zero, {most}")
        return float(given)

    def number(self, key: str, *, default: float, least: float = 0.0) -> float | None:
        """Return a number of seconds of `least` or more, or None if it is set to None."""
        given = self._given.get(key, default)
        if given is None:
            return None
        is_number = isinstance(given, int | float) and not isinstance(given, bool)
        if not is_number or not least <= given <= _LONGEST_SECONDS:
            reason = f"it must be a number of seconds of {least:g} or more, or None for none"
            raise self.invalid(key, reason)
        return float(given)

    def options(
        self, key: str = "OPTIONS", *, proper: str = "a dict with the options of the client"
    ) -> Mapping[str, Any]:
        """Return a dict, by default the client's options.

        Args:
            proper: description of the dict, for the error.
        """
        given = self._given.get(key, {})
        if not isinstance(given, Mapping):
            raise self.invalid(key, f"it must be {proper}")
        return given

    def imported(self, key: str, path: str) -> Any:
        """Return the object with this dotted path."""
        try:
            return import_string(path)
        except ImportError as error:
            reason = f"{path} cannot be imported ({error}); use a dotted path in installed code"
            raise self.invalid(key, reason) from error
