"""Numbers in the `OPTIONS` of sinks and sources."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from django.core.exceptions import ImproperlyConfigured

N = TypeVar("N", int, float)


def number(owner: str, options: Mapping[str, Any], name: str, default: N) -> N:
    """Return an option as a number of the type of its default.

    Args:
        owner: whose options they are, for the error: 'the sink "kafka"'.
        options: the `OPTIONS`.
        name: the option.
        default: the number without the option.

    Raises:
        ImproperlyConfigured: it is no number. The value is not quoted.
    """
    try:
        return type(default)(options.get(name, default))
    except (TypeError, ValueError, OverflowError):
        kind = {int: "a whole number", float: "a number"}[type(default)]
        raise ImproperlyConfigured(
            f'OPTIONS of {owner}: "{name}" must be {kind}. Correct it.'
        ) from None
