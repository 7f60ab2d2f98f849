"""Mask personal data in texts: known values, patterns, and exception messages in tracebacks.

Values that events mark as `Sensitive`, and values that apps declare for a subject, are masked by
their own text, in any quoted form. The rest of a failure's text may quote a person that the outbox
does not know. So patterns of e-mail addresses and long numbers are masked in each such text before
it is stored or logged.
"""

from __future__ import annotations

import html
import json
import re
import traceback
from collections.abc import Iterable, Iterator, Sequence
from typing import Any
from urllib.parse import quote, quote_plus

from .marks import MASK

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
    if len(form) < 4:  # many words contain it, so it is masked only as a whole word
        pattern = rf"(?<!\w){re.escape(form)}(?!\w)"
        return re.sub(pattern, lambda _: mask, text, flags=re.IGNORECASE)
    # Not by a pattern: `re` would keep it, with the value, and a value may have megabytes.
    if len(form) > len(text):
        return text
    return _covered(text, _occurrences(_folded(text), _folded(form)), mask)


def _without_parts(text: str, forms: Sequence[str], mask: str) -> str:
    """Mask each part with which a form begins or ends."""
    lowered, length = _lowered(text), len(text)
    spans: list[tuple[int, int]] = []
    for form in map(_lowered, forms):
        spans += _beginnings(lowered, form)
        ends = _beginnings(lowered[::-1], form[::-1])
        spans += [(length - end, length - start) for start, end in ends]
    return _covered(text, sorted(spans), mask)  # they overlap: forms of a value begin or end alike


def _covered(text: str, spans: Iterable[tuple[int, int]], mask: str) -> str:
    """Return a text with masks in place of these ranges, which ascend."""
    made, done = "", 0
    for start, end in spans:
        if start >= done:
            made += text[done:start] + mask
        done = max(done, end)
    return made + text[done:]


def _occurrences(text: str, form: str) -> Iterator[tuple[int, int]]:
    end = 0
    while (start := text.find(form, end)) >= 0:
        end = start + len(form)
        yield start, end


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


def _folded(text: str) -> str:
    """Return a text of the same length in which all cases of a letter are the same.

    They are those that `re.IGNORECASE` treats alike. In lower case, a letter may have several: one
    of the sigmas is that at the end of a word.
    """
    return text.translate(_FOLDS)


class _Folds(dict[int, str]):
    """The first letter that was met of those with the same capital."""

    def __init__(self) -> None:
        self._first: dict[str, str] = {}

    def __missing__(self, code: int) -> str:
        letter = chr(code)
        self[code] = first = self._first.setdefault(letter.lower()[0].upper(), letter)
        return first


_FOLDS = _Folds()


#: Longer numbers are masked: telephone numbers, cards, bank accounts.
MOST_DIGITS = 8

# The local part is unquoted as in RFC 5322, or quoted. The "@" may be encoded as in a URL ("%40").
_EMAIL = re.compile(
    r"""(?:"[^"\r\n]{1,64}"|[\w.!\#$%&'*+/=?^`{|}~-]{1,128})
        (?:[@\uff20]|%40|%EF%BC%A0|\\u0040|&\#(?:64|x40);)
        (?:\[[0-9A-Fa-f.:]+\]|(?:[\w-]+\.)+[\w-]{2,})""",
    re.VERBOSE | re.IGNORECASE,
)
# Separators within a number: also those of Japanese keyboards, and invisible ones.
_HYPHENS = "-\u00ad\u2010\u2011\u2012\u2013\u2014\u2015\u2212\u30fc\ufe58\ufe63\uff0d\uff70"
_SPACES = " \t\u00a0\u2002\u2003\u2007\u2008\u2009\u200a\u200b\u202f\u2060\u3000\ufeff"
_MARKS = ".()/+\u00b7\u2024\u30fb\uff08\uff09\uff0b\uff0e\uff0f\uff65"


def _escaped(characters: str) -> str:
    """Return a pattern of these characters as JSON, `repr`, an URL and HTML write them."""
    forms = {r"\t", "%2D", "%2E", "&nbsp;", "&shy;", "&ndash;", "&mdash;"}
    for one in characters:
        forms |= {json.dumps(one)[1:-1], ascii(one)[1:-1], quote(one, safe="")}
        forms |= {f"&#{ord(one)};", f"&#x{ord(one):x};"}
    by_first = {first: sorted(form[1:] for form in forms if form[0] == first) for first in r"\%&"}
    return "|".join(
        re.escape(first) + "(?:" + "|".join(map(re.escape, rests)) + ")"
        for first, rests in by_first.items()
    )


_BETWEEN = _HYPHENS + _SPACES + _MARKS
_SEPARATOR = f"(?:[{re.escape(_BETWEEN)}]|{_escaped(_BETWEEN)})"
_DIGIT = r"(?:\d|\\uff1\d)"  # also full-width
_ANY_DIGIT = re.compile(_DIGIT, re.IGNORECASE)
_ANY_SEPARATOR = re.compile(_SEPARATOR, re.IGNORECASE)
# Letters may be next to a number: in "Tel0901234567", and in languages without spaces.
_NUMBER = re.compile(
    rf"[+\uff0b]?[(\uff08]?{_DIGIT}(?:{_SEPARATOR}{{0,3}}{_DIGIT})+", re.IGNORECASE
)
# A bank account may have letters among its digits.
_IBAN = re.compile(
    r"(?<![0-9A-Za-z])[A-Z]{2}[0-9]{2}(?:[ \u00a0]?[0-9A-Z]{4}){2,7}(?:[ \u00a0]?[0-9A-Z]{1,3})?"
    r"(?![0-9A-Za-z])"
)

# These have as many digits and identify no person. Part of a longer number is not kept.
_UUID = r"(?<![0-9a-f])[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}(?![0-9a-f])"
_TIME = r"[T ][0-2]\d:[0-5]\d(?::[0-6]\d(?:[.,]\d{1,9})?)?(?:Z|[+-][01]\d(?::?[0-5]\d)?)?"
_DATE = (
    rf"(?<!\d)(?<!\d[{re.escape(_HYPHENS)}])(?:19|2[01])\d\d-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01])"
    rf"(?:{_TIME})?(?![\d{re.escape(_HYPHENS)}])"
)
_OCTET = r"(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)"
_IPV4 = rf"(?<![\d.])(?:{_OCTET}\.){{3}}{_OCTET}(?!\.?\d|[{re.escape(_HYPHENS)}])"
# A memory address; a trace or a digest, in which digits and letters alternate.
_HEX = (
    r"(?<![0-9a-z])(?:0x[0-9a-f]{1,16}|(?=(?:[a-f]*[0-9]+[a-f]){2})"
    r"(?:[0-9a-f]{64}|[0-9a-f]{40}|[0-9a-f]{32}|[0-9a-f]{16}))(?![0-9a-z])"
)
_KEPT = re.compile("|".join((_UUID, _DATE, _IPV4, _HEX)), re.IGNORECASE)


def masked_addresses(text: str) -> str:
    """Return a text with "***" for each e-mail address."""
    return _EMAIL.sub(MASK, text)


def masked_patterns(text: str) -> str:
    """Return a text with "***" for each e-mail address and each number of nine digits or more.

    Kept are UUIDs, dates with or without a time, IPv4 addresses, memory addresses and digests.
    """
    text = masked_addresses(text)
    made, done = [], 0
    for kept in _KEPT.finditer(text):
        made += [_masked_numbers(text[done : kept.start()]), kept[0]]
        done = kept.end()
    return "".join([*made, _masked_numbers(text[done:])])


def _masked_numbers(text: str) -> str:
    return _NUMBER.sub(_masked_number, _IBAN.sub(_masked_number, text))


def _masked_number(found: re.Match[str]) -> str:
    # An escaped separator has digits of its own: "%20".
    digits = len(_ANY_DIGIT.findall(_ANY_SEPARATOR.sub("", found[0])))
    return MASK if digits > MOST_DIGITS else found[0]


def traceback_without_messages(error: BaseException) -> str:
    """Return the frames and class names of an exception and of its causes.

    The first exception is first, as in Python. It never raises.
    """
    parts: list[str] = []
    seen: set[int] = set()
    one: BaseException | None = error
    while one is not None and id(one) not in seen:
        seen.add(id(one))
        parts.append(f"Traceback (most recent call last):\n{_frames(one)}{type(one).__name__}")
        one = one.__cause__ or (None if one.__suppress_context__ else one.__context__)
    return "\n\n".join(reversed(parts))


def _frames(error: BaseException) -> str:
    try:
        return "".join(traceback.format_tb(error.__traceback__))
    except Exception:
        return "  (its frames cannot be read)\n"
