"""Find values in a text in any quoted form, and replace them by a mask."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterable, Iterator, Sequence
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
    return _without_parts(text, [form for form in forms if len(form) > _SHORTEST_PART], mask)


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


def _without_parts(text: str, forms: Sequence[str], mask: str) -> str:
    """Mask each part with which a form begins or ends."""
    lowered, length = _lowered(text), len(text)
    spans: list[tuple[int, int]] = []
    for form in map(_lowered, forms):
        spans += _beginnings(lowered, form)
        ends = _beginnings(lowered[::-1], form[::-1])
        spans += [(length - end, length - start) for start, end in ends]
    made, done = "", 0
    for start, end in sorted(spans):  # they overlap: forms of a value begin or end alike
        if start >= done:
            made += text[done:start] + mask
        done = max(done, end)
    return made + text[done:]


def _beginnings(text: str, form: str) -> Iterator[tuple[int, int]]:
    """Yield where `form` begins in a text, as far as it goes."""
    end = 0
    while (start := text.find(form[:_SHORTEST_PART], end)) >= 0:
        end = start + _SHORTEST_PART
        while end < len(text) and end - start < len(form) and text[end] == form[end - start]:
            end += 1
        yield start, end


def _lowered(text: str) -> str:
    """Return a text in lower case, of the same length: "İ" becomes two characters otherwise."""
    lowered = text.lower()
    if len(lowered) == len(text):
        return lowered
    return "".join(one.lower()[0] for one in text)
