"""The shapes of orders in the API."""

from __future__ import annotations

from collections import Counter
from typing import Any

from django.conf import settings
from django.core.validators import RegexValidator
from django.utils.translation import gettext_lazy as _
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from api import (
    MoneyField,
    StrictBooleanField,
    StrictCharField,
    StrictIntegerField,
    StrictSerializer,
)
from orders.models import Order, OrderLine, RefundRequest
from shared.mail import LONGEST_ADDRESS, MailboxValidator

MOST_LINES = 100
MOST_UNITS = 1000


class WantedLineSerializer(StrictSerializer):
    sku = StrictCharField(max_length=64)
    quantity = StrictIntegerField(min_value=1, max_value=MOST_UNITS)


@extend_schema_field({"type": "string", "format": "email", "maxLength": LONGEST_ADDRESS})
class Address(StrictCharField):
    """An e-mail address on the internet."""

    default_validators = [MailboxValidator()]


class PlaceOrderSerializer(StrictSerializer):
    """A customer's order. Prices and the total come from the catalogue."""

    payment_method = StrictCharField(
        max_length=100,
        validators=[
            RegexValidator(
                r"^[A-Za-z][A-Za-z0-9_-]*$",
                _(
                    "This must be the token of a payment method, such as tok_success. Never "
                    "send a card number."
                ),
            )
        ],
        help_text="The bank's token of a payment method.",
    )
    lines = WantedLineSerializer(
        many=True,
        min_length=1,  # type: ignore[call-arg]  # many=True takes it, which the stubs do not know
        max_length=MOST_LINES,
    )
    email = Address(
        required=False,
        max_length=LONGEST_ADDRESS,
        help_text="An address on the internet. Default: the address of your account.",
    )
    language = serializers.ChoiceField(
        choices=settings.LANGUAGES,
        required=False,
        help_text="The language of e-mails. Default: the language of `Accept-Language`.",
    )

    def validate_lines(self, lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
        times = Counter(line["sku"] for line in lines)
        twice = sorted(sku for sku, count in times.items() if count > 1)
        if twice:
            raise serializers.ValidationError(
                _("Each product must occur only once. Duplicates: %(skus)s.")
                % {"skus": ", ".join(twice)}
            )
        return lines


class ShipOrderSerializer(StrictSerializer):
    carrier = StrictCharField(max_length=100)
    tracking_number = StrictCharField(max_length=100)


class AmountSerializer(StrictSerializer):
    amount = StrictIntegerField(min_value=1, max_value=2**63 - 1, help_text="In minor units.")
    currency = serializers.RegexField(r"^[A-Z]{3}$")


class RefundOrderSerializer(StrictSerializer):
    """Lines, an amount, or both if it is not their price. Without either: all that is left."""

    lines = WantedLineSerializer(
        many=True,
        required=False,
        min_length=1,  # type: ignore[call-arg]  # many=True takes it, which the stubs do not know
        max_length=MOST_LINES,
    )
    amount = AmountSerializer(required=False)
    return_stock = StrictBooleanField(help_text="Whether the units are returned to stock.")


class RefundSerializer(serializers.ModelSerializer[RefundRequest]):
    total = MoneyField(read_only=True)

    class Meta:
        model = RefundRequest
        fields = ["id", "total", "return_stock", "requested_at"]
        read_only_fields = fields


class OrderLineSerializer(serializers.ModelSerializer[OrderLine]):
    unit_price = MoneyField(read_only=True)
    total = MoneyField(read_only=True)

    class Meta:
        model = OrderLine
        fields = ["sku", "name", "quantity", "unit_price", "total"]
        read_only_fields = fields


class OrderSerializer(serializers.ModelSerializer[Order]):
    cancel_reason = serializers.ChoiceField(
        [("", _("not cancelled")), *Order.CancelReason.choices], read_only=True
    )
    total = MoneyField(read_only=True)
    lines = OrderLineSerializer(many=True, read_only=True)

    class Meta:
        model = Order
        fields = [
            "id",
            "reference",
            "status",
            "cancel_reason",
            "total",
            "lines",
            "email",
            "language",
            "carrier",
            "tracking_number",
            "placed_at",
            "changed_at",
        ]
        read_only_fields = fields


class SettlementSerializer(serializers.Serializer[Any]):
    consumer = serializers.CharField()
    state = serializers.CharField(help_text="open, settled, missing or withdrawn.")
    due_at = serializers.DateTimeField(help_text="The deadline of an open one.")
    settled_at = serializers.DateTimeField(allow_null=True)
    text = serializers.CharField(help_text="The state in words, to show to staff.")


class TimelineDeliverySerializer(serializers.Serializer[Any]):
    handler = serializers.CharField()
    state = serializers.CharField(
        help_text="pending, sent, done, dead, discarded, parked or blocked; done and discarded "
        "are settled."
    )
    attempts = serializers.IntegerField()
    due_at = serializers.DateTimeField()
    started_at = serializers.DateTimeField(allow_null=True)
    settled_at = serializers.DateTimeField(allow_null=True)
    why = serializers.CharField(
        help_text="The reason why it is not done. Empty without the permission to view deliveries."
    )
    settlements = SettlementSerializer(
        many=True, help_text="Reports of other systems, that they have processed the event."
    )


class TimelineEventSerializer(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    name = serializers.CharField()
    emitted_at = serializers.DateTimeField()
    emitted_by = serializers.CharField(
        help_text="The handler that emitted the event; empty if none did."
    )
    caused_by = serializers.UUIDField(source="causation_id", allow_null=True)
    depth = serializers.IntegerField(
        help_text="The number of its causes on this page, direct and indirect."
    )
    deliveries = TimelineDeliverySerializer(many=True)
