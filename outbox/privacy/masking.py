"""Find values in a text, however they are quoted there, and put a mask in their place."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterable
from typing import Any
from urllib.parse import quote, quote_plus

#: From so many characters on, a part with which a value begins or ends gives it away, too: messages
#: are cut ("hanako.yamad...example.com").
_TELLING = 8


def masked_values(text: str, values: Iterable[Any], *, mask: str) -> str:
    """Return a text in which none of the values, nor a telling part of one, is left."""
    found = {form for value in values for form in _forms(str(value)) if form}
    forms = sorted(found, key=len, reverse=True)
    for form in forms:
        text = _without(text, form, mask)
    # Only now: "Ann%20Lee" ends as "Ann Lee" does, and would leave "Ann".
    for form in forms:
        if len(form) > _TELLING:
            text = _without_parts(text, form, mask)
            text = _without_parts(text[::-1], form[::-1], mask)[::-1]
    return text


def _forms(value: str) -> Iterable[str]:
    """Return how a value may be written: plain, as JSON, by repr(), in an address, in HTML."""
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
    # A short value stands in many words: only where it is one is it the value.
    edges = (r"(?<!\w)", r"(?!\w)") if len(form) < 4 else ("", "")
    pattern = edges[0] + re.escape(form) + edges[1]
    return re.sub(pattern, lambda _: mask, text, flags=re.IGNORECASE)


def _without_parts(text: str, form: str, mask: str) -> str:
    """Mask what `form` begins with, as far as it goes."""
    lowered, sought = _lowered(text), _lowered(form)
    made, done = "", 0
    while (start := lowered.find(sought[:_TELLING], done)) >= 0:
        end = start + _TELLING
        while (
            end < len(lowered)
            and end - start < len(sought)
            and (lowered[end] == sought[end - start])
        ):
            end += 1
        made, done = made + text[done:start] + mask, end
    return made + text[done:]


def _lowered(text: str) -> str:
    """Return a text in lower case, of the same length: "İ" becomes two characters otherwise."""
    lowered = text.lower()
    if len(lowered) == len(text):
        return lowered
    return "".join(one.lower()[0] for one in text)
