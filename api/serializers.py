"""Fields that convert no value to another type, and a serializer that refuses unknown fields."""

from __future__ import annotations

import heapq
import re
from typing import Any

from django.utils.translation import gettext_lazy as _
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from shared.money import Money

#: Controls, line separators, and characters that change the direction of text.
_CONTROLS = r"\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069"
_CONTROL = re.compile(f"[{_CONTROLS}]")

#: Pattern of a text without these characters, for the schema.
ONE_LINE = f"^[^{_CONTROLS}]*$"

#: Maximum unknown fields of one object that an error names.
_MOST_UNKNOWN = 20


class StrictSerializer(serializers.Serializer[Any]):
    """Refuses fields that it does not know: a misspelled one must not be silently left out."""

    default_error_messages = {"unknown_field": _("This field is unknown.")}

    def to_internal_value(self, data: Any) -> Any:
        """Refuse unknown fields and name the first ones."""
        if isinstance(data, dict) and (unknown := data.keys() - self.fields.keys()):
            text = str(self.error_messages["unknown_field"])
            named = heapq.nsmallest(_MOST_UNKNOWN, unknown)
            raise serializers.ValidationError(
                {name: [serializers.ErrorDetail(text, "unknown_field")] for name in named}
            )
        return super().to_internal_value(data)


class NothingSerializer(StrictSerializer):
    """The body of a request that has no fields: it is empty, or `{}`."""


class BoundedListField(serializers.ListField):
    """A list whose length is checked before its items: each wrong item costs an error."""

    default_error_messages = {
        "max_length": _("Ensure this field has no more than {max_length} elements.")
    }

    def to_internal_value(self, data: Any) -> list[Any]:
        """Refuse a list that is too long, before its items are checked."""
        if isinstance(data, list) and self.max_length is not None and len(data) > self.max_length:
            self.fail("max_length", max_length=self.max_length)
        items: list[Any] = super().to_internal_value(data)
        return items


class StrictIntegerField(serializers.IntegerField):
    """A JSON integer. Refuses `true`, `2.0` and `"2"`."""

    def to_internal_value(self, data: Any) -> int:
        """Refuse values that only resemble an integer."""
        if type(data) is not int:
            self.fail("invalid")
        return super().to_internal_value(data)


class StrictCharField(serializers.CharField):
    """A JSON string of one line. Refuses numbers."""

    default_error_messages = {
        "control_character": _(
            "This field must not contain line breaks or other control characters."
        )
    }

    def to_internal_value(self, data: Any) -> str:
        """Refuse other types, and characters that would disguise the text where it is shown."""
        if not isinstance(data, str):
            self.fail("invalid")
        text = super().to_internal_value(data)
        if _CONTROL.search(text):
            self.fail("control_character")
        return text


class StrictBooleanField(serializers.BooleanField):
    """`true` or `false`. Refuses 1 and "yes"."""

    def to_internal_value(self, data: Any) -> bool:
        """Refuse values that only stand for true or false."""
        if not isinstance(data, bool):
            self.fail("invalid", input=data)
        return data


@extend_schema_field(Money.model_json_schema(mode="serialization"))
class MoneyField(serializers.Field[Money, None, dict[str, Any], Any]):
    """An amount in minor units and its currency."""

    def to_representation(self, value: Money) -> dict[str, Any]:
        """Return `{"amount": 12800, "currency": "JPY"}`."""
        return value.model_dump()
