"""JSON objects: their text on a page, and a form field for storable ones."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _

#: Maximum nesting of arrays and objects, as masking and drawing a payload recurse.
DEEPEST = 100
#: NUL and surrogates: PostgreSQL's jsonb refuses both, even escaped.
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")


def payload_text(payload: Mapping[str, Any]) -> str:
    """Return a payload as indented JSON. Mask it first: `outbox.privacy.sensitive.masked`."""
    return json.dumps(payload, indent=2, ensure_ascii=False)


class JSONObjectField(forms.CharField):
    """A JSON object (RFC 8259: no NaN, no Infinity), nested at most `DEEPEST` levels."""

    def clean(self, value: Any) -> Any:
        """Return the object as a dictionary; None for an empty field that is not required.

        Raises:
            ValidationError: it is no JSON object, too deep, or has text that cannot be stored.
        """
        text = super().clean(value)
        if not text:
            return None
        document = _read(text)
        if not isinstance(document, dict):
            raise ValidationError(_("Enter a JSON object."))
        for depth, text in _walk(document):
            if depth > DEEPEST:
                raise _too_deep()
            if _UNSTORABLE.search(text):
                raise ValidationError(
                    _("A string has a NUL character or an unpaired surrogate. Remove it.")
                )
        return document


def _read(text: str) -> Any:
    try:
        return json.loads(text, parse_constant=_no_constant, parse_float=_finite)
    except RecursionError:
        raise _too_deep() from None
    except ValueError as error:
        raise ValidationError(_("Invalid JSON: %s") % error) from None


def _no_constant(name: str) -> Any:
    raise ValueError(_("%s is not a JSON value") % name)


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(_("a number is too large"))
    return value


def _walk(document: Any) -> Iterator[tuple[int, str]]:
    """Yield the depth of each value, and its text ("" for other types), without recursion."""
    waiting = [(document, 0)]
    while waiting:
        value, depth = waiting.pop()
        depth += isinstance(value, dict | list)
        yield depth, value if isinstance(value, str) else ""
        if isinstance(value, dict):
            waiting += [(part, depth) for pair in value.items() for part in pair]
        elif isinstance(value, list):
            waiting += [(part, depth) for part in value]


def _too_deep() -> ValidationError:
    return ValidationError(_("Nest arrays and objects at most %d levels deep.") % DEEPEST)
