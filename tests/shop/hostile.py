"""Hostile values, and a client that records server errors."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

from django.contrib.auth.models import User
from django.core.signals import got_request_exception
from django.db import transaction
from django.test import Client

_DEEP = 12_000
#: No web server hands on a longer line of a request.
_LINE = 4000

#: By what each is called in a report.
TEXTS: Mapping[str, str] = {
    "empty": "",
    "NUL": "a\0b",
    "overlong": "x" * 5000,
    "many words": "a " * 1500,
    "a negative number": "-1",
    "more digits than int() takes": "9" * 5000,
    "beyond 64 bits": "9" * 20,
    "NaN": "NaN",
    "infinity": "1e999",
    "digits of another script": "١٢٣",
    "a superscript": "²",
    "year 0": "0000-01-01",
    "year 1": "0001-01-01 00:00:00+23:59",
    "year 9999": "9999-12-31 23:59:59-23:59",
    "year 99999": "99999-01-01",
    "a year": "9999",
    "an open group": "(['\"`;--\\",
    "a script": "</textarea><script>alert(1)</script>",
    "a header": "x\r\nSet-Cookie: a=b",
    "deep arrays": "[" * _DEEP,
    "underscores": "__",
    "odd text": "%s%(x)d{0.__class__}../../etc/passwd\u202e\ufffe😀",
}
#: Sent as they stand here.
RAW: Mapping[str, str] = {
    "no UTF-8": "%ED%A0%80%FF%FE%C0%80",
    "no escape": "%zz%u0000%",
}
#: Each as it stands in an address or a form.
VALUES: Mapping[str, str] = {
    **{name: quote(text, safe="") for name, text in TEXTS.items()},
    **RAW,
}
#: For a field that takes JSON.
DOCUMENTS: Mapping[str, str] = {
    "deep objects": '{"a":' * _DEEP,
    "deep arrays, closed": "[" * _DEEP + "]" * _DEEP,
    "deep objects, closed": '{"a":' * _DEEP + "1" + "}" * _DEEP,
    "a deep value": '{"a": ' + "[" * 500 + "]" * 500 + "}",
    "an escaped NUL": '{"a": "\\u0000"}',
    "an escaped NUL in a name": '{"\\u0000": 1}',
    "half of a surrogate pair": '{"a": "\\ud800"}',
    "NaN": '{"a": NaN}',
    "infinity": '{"a": 1e999}',
    "many digits": '{"a": ' + "9" * 5000 + "}",
    "an array": "[1]",
    "nothing": "null",
}
FORM = "application/x-www-form-urlencoded"

#: Names and values, encoded.
Pairs = Sequence[tuple[str, str]]


class Attacker(Client):
    """A superuser whose requests change nothing, and who keeps a line on each server error."""

    def __init__(self) -> None:
        super().__init__()
        self.user = User.objects.create_superuser("root")
        self.force_login(self.user)
        self.broken: list[str] = []

    def request(self, **request: Any) -> Any:
        """Answer without a copy of each template's context, which takes most of the time."""
        return self.handler(self._base_environ(**request))  # type: ignore[attr-defined]  # not in the stubs

    def ask(self, url: str, query: Pairs = (), *, of: str = "") -> Any:
        """Send a GET."""
        query = [(name, value[:_LINE]) for name, value in query]
        return self._send("GET", f"{url}?{encoded(query)}" if query else url, of)

    def give(self, url: str, form: Pairs, *, of: str = "") -> Any:
        """Send a POST."""
        return self._send("POST", url, of, data=encoded(form), content_type=FORM)

    def has_broken_nothing(self) -> None:
        assert not self.broken, "\n" + "\n".join(self.broken)

    def _send(self, method: str, url: str, of: str, **more: Any) -> Any:
        with _nothing_kept(), _noted() as errors:
            answer: Any = self.generic(method, url, **more)
        if answer.status_code >= 500:
            line = f"{method} {url.partition('?')[0][:100]} {of}: {errors or answer.status_code}"
            self.broken.append(line[:300])
        return answer


@contextmanager
def _nothing_kept() -> Iterator[None]:
    # No `atomic()`, since a durable one may follow.
    savepoint = transaction.savepoint()
    try:
        yield
    finally:
        transaction.savepoint_rollback(savepoint)
        transaction.set_rollback(False)


@contextmanager
def _noted() -> Iterator[list[str]]:
    """Yield a list that is filled with the errors that Django answers by a 500."""
    errors: list[str] = []

    def note(**_kwargs: Any) -> None:
        error = sys.exception()
        errors.append(f"{type(error).__name__}: {error}"[:150])

    got_request_exception.connect(note)
    try:
        yield errors
    finally:
        got_request_exception.disconnect(note)


def encoded(pairs: Pairs) -> str:
    return "&".join(f"{name}={value}" for name, value in pairs)
