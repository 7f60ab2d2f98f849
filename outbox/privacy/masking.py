"""Find values in a text in any quoted form, and replace them by a mask."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterable
from typing import Any
from urllib.parse import quote, quote_plus

#: The shortest beginning or end of a value that is masked, too, in characters: messages are cut
#: ("hanako.yamad...example.com").
_SHORTEST_PART = 8


def masked_values(text: str, values: Iterable[Any], *, mask: str) -> str:
    """Return a text without the values, and without long parts at their beginning or end."""
    found = {form for value in values for form in _forms(str(value)) if form}
    forms = sorted(found, key=len, reverse=True)
    for form in forms:
        text = _without(text, form, mask)
    # After all forms: "Ann%20Lee" ends as "Ann Lee" and would leave "Ann".
    for form in forms:
        if len(form) > _SHORTEST_PART:
            text = _without_parts(text, form, mask)
            text = _without_parts(text[::-1], form[::-1], mask)[::-1]
    return text


def _forms(value: str) -> Iterable[str]:
    """Return the written forms of a value: plain, as JSON, by repr(), in a URL, in HTML."""
    return (
        value,
        json.dumps(value)[1:-1],
        json.dumps(value, ensure_ascii=False)[1:-1],
        repr(value)[1:-1],
        ascii(value)[1:-1],
        quote(value),
        quote_plus(value),
        html.escape(value),
    )


def _without(text: str, form: str, mask: str) -> str:
    # Many words contain a short value, so it is masked only as a whole word.
    edges = (r"(?<!\w)", r"(?!\w)") if len(form) < 4 else ("", "")
    pattern = edges[0] + re.escape(form) + edges[1]
    return re.sub(pattern, lambda _: mask, text, flags=re.IGNORECASE)


def _without_parts(text: str, form: str, mask: str) -> str:
    """Mask each longest part of the text with which `form` begins."""
    lowered, sought = text.lower(), form.lower()
    made, done = "", 0
    while (start := lowered.find(sought[:_SHORTEST_PART], done)) >= 0:
        end = start + _SHORTEST_PART
        while (
            end < len(lowered)
            and end - start < len(sought)
            and (lowered[end] == sought[end - start])
        ):
            end += 1
        made, done = made + text[done:start] + mask, end
    return made + text[done:]
