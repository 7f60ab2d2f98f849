"""Mask e-mail addresses and long numbers by patterns: the last line of defence.

Values that events mark as `Sensitive`, and values that apps declare for a subject, are masked by
their own text. The rest of a failure's text may quote a person that the outbox does not know. So
these patterns are applied to each such text before it is stored or logged.
"""

from __future__ import annotations

import json
import re
from urllib.parse import quote

from .marks import MASK

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
# Letters may stand beside a number: in "Tel0901234567", and in languages without spaces.
_NUMBER = re.compile(
    rf"[+\uff0b]?[(\uff08]?{_DIGIT}(?:{_SEPARATOR}{{0,3}}{_DIGIT})+", re.IGNORECASE
)
# A bank account may have letters among its digits.
_IBAN = re.compile(
    r"(?<![0-9A-Za-z])[A-Z]{2}[0-9]{2}(?:[ \u00a0]?[0-9A-Z]{4}){2,7}(?:[ \u00a0]?[0-9A-Z]{1,3})?"
    r"(?![0-9A-Za-z])"
)

# These have as many digits and identify nobody. Part of a longer number is not kept.
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
