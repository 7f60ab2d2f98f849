"""Mask e-mail addresses and long numbers by patterns: the last line of defence.

Values that events mark as `Sensitive`, and values that apps declare for a subject, are masked by
their own text. The rest of a failure's text may quote a person that the outbox does not know. So
these patterns are applied to each such text before it is stored or logged.
"""

from __future__ import annotations

import re

from .marks import MASK

#: Longer numbers are masked: telephone numbers, cards, bank accounts.
MOST_DIGITS = 8

# The local part is unquoted as in RFC 5322, or quoted. The "@" may be encoded as in a URL ("%40").
_EMAIL = re.compile(
    r"""(?:"[^"\r\n]{1,64}"|[\w.!\#$%&'*+/=?^`{|}~-]{1,128})
        (?:@|%40|\\u0040|&\#(?:64|x40);)
        (?:\[[0-9A-Fa-f.:]+\]|(?:[\w-]+\.)+[\w-]{2,})""",
    re.VERBOSE | re.IGNORECASE,
)
_NUMBER = re.compile(r"(?<![\w.])\+?\(?\d(?:[ .()/-]{0,2}\d)+(?!\w)")

# Texts with as many digits that identify no person.
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_MOMENT = re.compile(r"\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?:Z|[+-]\d\d:?\d\d)?)?")
_IPV4 = re.compile(r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?![\w.])")
_KEPT = re.compile("|".join(one.pattern for one in (_UUID, _MOMENT, _IPV4)), re.IGNORECASE)


def masked_addresses(text: str) -> str:
    """Return a text with "***" for each e-mail address."""
    return _EMAIL.sub(MASK, text)


def masked_patterns(text: str) -> str:
    """Return a text with "***" for each e-mail address and each number of nine digits or more.

    UUIDs, dates with or without a time, and IPv4 addresses are kept.
    """
    text = masked_addresses(text)
    made, done = [], 0
    for kept in _KEPT.finditer(text):
        made += [_NUMBER.sub(_masked_number, text[done : kept.start()]), kept[0]]
        done = kept.end()
    return "".join([*made, _NUMBER.sub(_masked_number, text[done:])])


def _masked_number(found: re.Match[str]) -> str:
    digits = sum(character.isdigit() for character in found[0])
    return MASK if digits > MOST_DIGITS else found[0]
