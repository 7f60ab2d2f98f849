"""Strict JSON (RFC 8259), without values that a database or a serializer would refuse later."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import IO, Any

from django.conf import settings
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from rest_framework.exceptions import APIException, ParseError
from rest_framework.parsers import JSONParser

#: Limits of a document. Each wrong value costs an error that is longer than the value itself, so
#: larger documents are refused before any value is checked.
DEEPEST = 20  # arrays and objects inside each other
MOST_ITEMS = 1000  # of an array
MOST_NAMES = 100  # of an object
LONGEST_NAME = 64  # in characters
MOST_VALUES = 5000  # of the whole document; an order of 100 lines has 303

_SURROGATE = re.compile("[\ud800-\udfff]")


class BodyTooLarge(APIException):
    """The body is larger than `DATA_UPLOAD_MAX_MEMORY_SIZE`."""

    status_code = 413
    default_code = "body_too_large"
    default_detail = gettext_lazy("The body is too large.")


class StrictJSONParser(JSONParser):
    """Refuses a body that is too large or too deep, has too many parts, or is not UTF-8.

    It also refuses an object with the same name twice.
    """

    def parse(
        self,
        stream: IO[Any],
        media_type: str | None = None,
        parser_context: Mapping[str, Any] | None = None,
    ) -> Any:
        """Return the parsed document, or raise ParseError or BodyTooLarge."""
        text = _read(stream)
        try:
            document = json.loads(text, object_pairs_hook=_object, parse_constant=_no_constant)
        except RecursionError as error:
            raise ParseError(_too_deep()) from error
        except ValueError as error:
            raise ParseError(_("The body is not valid JSON: %(why)s.") % {"why": error}) from error
        _check(document)
        return document


def _read(stream: IO[Any]) -> str:
    """Read no more than the limit, whatever Content-Length is."""
    most = settings.DATA_UPLOAD_MAX_MEMORY_SIZE
    content: bytes = stream.read(most + 1)
    if len(content) > most:
        raise BodyTooLarge(_("The body must have at most %(most)d bytes.") % {"most": most})
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise ParseError(_("The body is not UTF-8.")) from error


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(pairs) > MOST_NAMES:
        raise ParseError(_("An object must have at most %(most)d names.") % {"most": MOST_NAMES})
    document = dict(pairs)
    # Two parsers may read `{"quantity": 1, "quantity": 9}` differently.
    if len(document) < len(pairs):
        raise ValueError("an object has a duplicate name")
    return document


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON value")


def _check(document: Any) -> None:
    """Check each value and name, without recursion, which a deep document would exhaust."""
    waiting, found = [(document, 0)], 0
    while waiting:
        value, depth = waiting.pop()
        if isinstance(value, str):
            _check_text(value)
        elif isinstance(value, dict | list):
            found += len(value)
            _check_size(value, depth=depth + 1, found=found)
            parts = value.values() if isinstance(value, dict) else value
            waiting += [(part, depth + 1) for part in parts]


def _check_size(value: dict[str, Any] | list[Any], *, depth: int, found: int) -> None:
    if depth > DEEPEST:
        raise ParseError(_too_deep())
    if isinstance(value, list) and len(value) > MOST_ITEMS:
        raise ParseError(_("An array must have at most %(most)d items.") % {"most": MOST_ITEMS})
    if found > MOST_VALUES:
        raise ParseError(_("The body must have at most %(most)d values.") % {"most": MOST_VALUES})
    if isinstance(value, dict):
        for name in value:
            _check_name(name)


def _check_name(name: str) -> None:
    if len(name) > LONGEST_NAME:
        text = _("A name in an object must have at most %(most)d characters.")
        raise ParseError(text % {"most": LONGEST_NAME})
    _check_text(name)


def _check_text(text: str) -> None:
    if "\0" in text:
        raise ParseError(_("A string contains a NUL character."))
    if _SURROGATE.search(text):
        raise ParseError(_("A string contains an unpaired surrogate."))


def _too_deep() -> str:
    return _("Arrays and objects must be nested at most %(most)d levels deep.") % {"most": DEEPEST}
