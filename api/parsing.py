"""JSON as RFC 8259 has it, and nothing that a database or a serializer would choke on later."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import IO, Any

from django.conf import settings
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from rest_framework.exceptions import APIException, ParseError
from rest_framework.parsers import JSONParser

#: Arrays and objects inside each other.
DEEPEST = 20


class BodyTooLarge(APIException):
    """The body is larger than `DATA_UPLOAD_MAX_MEMORY_SIZE`."""

    status_code = 413
    default_code = "body_too_large"
    default_detail = gettext_lazy("The body is too large.")


class StrictJSONParser(JSONParser):
    """Refuses what is too large, too deep, not UTF-8, or says one name twice."""

    def parse(
        self,
        stream: IO[Any],
        media_type: str | None = None,
        parser_context: Mapping[str, Any] | None = None,
    ) -> Any:
        """Return the parsed document, or raise ParseError or BodyTooLarge."""
        text = _read(stream)
        try:
            document = json.loads(
                text, object_pairs_hook=_no_name_twice, parse_constant=_no_constant
            )
        except RecursionError as error:
            raise ParseError(_too_deep()) from error
        except ValueError as error:
            raise ParseError(_("This is no JSON: %(why)s.") % {"why": error}) from error
        _check(document)
        return document


def _read(stream: IO[Any]) -> str:
    """Read no more than is allowed, whatever Content-Length says."""
    most = settings.DATA_UPLOAD_MAX_MEMORY_SIZE
    content: bytes = stream.read(most + 1)
    if len(content) > most:
        raise BodyTooLarge(_("A body has at most %(most)d bytes.") % {"most": most})
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise ParseError(_("The body is not UTF-8.")) from error


def _no_name_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Two readers of `{"quantity": 1, "quantity": 9}` might understand two things."""
    document = dict(pairs)
    if len(document) < len(pairs):
        raise ValueError("an object has one name twice")
    return document


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a value of JSON")


def _check(document: Any) -> None:
    for depth, text in _walk(document):
        if depth > DEEPEST:
            raise ParseError(_too_deep())
        if "\0" in text:
            raise ParseError(_("A text has a NUL character."))
        if any("\ud800" <= character <= "\udfff" for character in text):
            raise ParseError(_("A text has half of a surrogate pair."))


def _walk(document: Any) -> Iterator[tuple[int, str]]:
    """Yield each text and name, "" for any other value, and how deep it lies; no recursion."""
    waiting = [(document, 0)]
    while waiting:
        value, depth = waiting.pop()
        depth += isinstance(value, dict | list)
        yield depth, value if isinstance(value, str) else ""
        if isinstance(value, dict):
            waiting += [(part, depth) for pair in value.items() for part in pair]
        elif isinstance(value, list):
            waiting += [(part, depth) for part in value]


def _too_deep() -> str:
    return _("Arrays and objects lie at most %(most)d deep.") % {"most": DEEPEST}
