"""The option "headers" of the HTTP sink: which headers HTTP allows."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

_NAME = re.compile(r"[-!#$%&'*+.^_`|~0-9A-Za-z]+")
_VALUE = re.compile(r"([!-~]+([ \t]+[!-~]+)*)?")


def wrong_headers(sink: str, options: Mapping[str, Any]) -> Iterator[str]:
    """Yield a text for each invalid header of a sink's options. None quotes a value.

    Args:
        sink: its name.
        options: its `OPTIONS`.
    """
    given = options.get("headers", {})
    if not isinstance(given, Mapping):
        yield f'The HTTP sink "{sink}" has an invalid option "headers". It must be a dict of texts.'
        return
    for name, value in given.items():
        if problem := _problem_of(name, value):
            shown = str(name).partition(":")[0]  # a value may have been written into the name
            yield (
                f'The HTTP sink "{sink}" has the invalid header {shown!r} in its option "headers": '
                f"{problem}"
            )


def _problem_of(name: object, value: object) -> str:
    """Return what is wrong with a header, and the next step; "" if it is valid."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        return "a name has only ASCII letters, digits and hyphens. Correct the name."
    if name.lower() == "content-length":
        return "the sink itself sends it. Remove it."
    if not isinstance(value, str) or not _VALUE.fullmatch(value):
        return (
            "its value must be a text in printable ASCII, and must not begin or end with a blank "
            "or a line end. Correct it, and strip a secret that is read from a file."
        )
    return ""
