"""Subjects of NATS: tokens, separated by dots.

Source: https://docs.nats.io/nats-concepts/subjects
"""

from __future__ import annotations

import re
from urllib.parse import quote

from outbox.receipt import PermanentFailure

#: Bytes. A server closes connections that send a longer line of control (4,096 with the rest).
LONGEST = 3800
#: The token of an empty key, since a token may not be empty. `token` returns it for no other key.
EMPTY = "%"

_ALLOWED = re.compile(r"[^\s.*>\x00-\x20\x7f]+(\.[^\s.*>\x00-\x20\x7f]+)*")


def token(key: str) -> str:
    """Return a key as one token: other characters than A-Z, a-z, 0-9, "-" and "_" as "%2E"."""
    return quote(key, safe="").replace(".", "%2E").replace("~", "%7E") or EMPTY


def refuse_bad_subject(subject: str) -> None:
    """Raise `PermanentFailure` for a subject that no message can be published to."""
    if not _ALLOWED.fullmatch(subject):
        raise PermanentFailure(
            f'"{subject}" is no subject to publish to: a token is empty or has a space, "*" or '
            '">". Correct TOPIC.'
        )
    if len(subject.encode()) > LONGEST:
        raise PermanentFailure(
            f"The subject has {len(subject.encode())} bytes, and NATS servers accept {LONGEST}. "
            "Remove {key} from TOPIC."
        )


def covers(pattern: str, subject: str) -> bool:
    """Return whether a pattern matches every subject that `subject` stands for.

    Both may have the wildcard "*", and ">" at their end.
    """
    wanted = subject.split(".")
    tokens = pattern.split(".")
    if tokens[-1] == ">":
        tokens = tokens[:-1]
        if len(wanted) <= len(tokens):
            return False
    elif len(wanted) != len(tokens) or wanted[-1] == ">":
        return False
    return all(token in ("*", one) for token, one in zip(tokens, wanted, strict=False))


def overlaps(one: str, other: str) -> bool:
    """Return whether a subject exists that both patterns match."""
    first, second = one.split("."), other.split(".")
    for left, right in zip(first, second, strict=False):
        if ">" in (left, right):
            return True
        if left != right and "*" not in (left, right):
            return False
    return len(first) == len(second)


def with_whole_wildcards(topic: str) -> str:
    """Return a topic whose tokens with a "*" are wildcards: "a.x-*" becomes "a.*"."""
    return ".".join("*" if "*" in one else one for one in topic.split("."))
