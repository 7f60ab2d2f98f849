"""The shapes of orders in the API."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, cast
from uuid import UUID

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
from orders import queries
from orders.models import Order, OrderLine, RefundLine, RefundRequest
from shared.mail import LONGEST_ADDRESS, MailboxValidator

MOST_LINES = 100
MOST_UNITS = 1000


class WantedLineSerializer(StrictSerializer):
    sku = StrictCharField(max_length=64)
    quantity = StrictIntegerField(min_value=1, max_value=MOST_UNITS)


class AmountSerializer(StrictSerializer):
    amount = StrictIntegerField(min_value=1, max_value=2**63 - 1, help_text="In minor units.")
    currency = serializers.RegexField(r"^[A-Z]{3}$")


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
    expected_total = AmountSerializer(
        required=False,
        help_text="The total that the customer has seen. If the total of the order differs, the "
        "order is refused: 409, `total_changed`.",
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


class RefundedLineSerializer(serializers.ModelSerializer[RefundLine]):
    sku = serializers.CharField(source="line.sku", read_only=True)

    class Meta:
        model = RefundLine
        fields = ["sku", "quantity"]
        read_only_fields = fields


class RefundSerializer(serializers.ModelSerializer[RefundRequest]):
    """A refund that staff requested. The context's `refunded` has those that the bank has done."""

    status = serializers.SerializerMethodField(
        help_text="`requested`; `refunded` once the bank has confirmed it."
    )
    total = MoneyField(read_only=True)
    lines = RefundedLineSerializer(many=True, read_only=True)

    class Meta:
        model = RefundRequest
        fields = ["id", "status", "total", "lines", "return_stock", "requested_at"]
        read_only_fields = fields

    @extend_schema_field(serializers.ChoiceField(RefundRequest.Status.choices))
    def get_status(self, refund: RefundRequest) -> str:
        shown: dict[UUID, queries.Refunded] = self.context.get("refunded", {})
        is_done = refund.order_id in shown and refund.pk in shown[refund.order_id].done
        return RefundRequest.Status.REFUNDED if is_done else RefundRequest.Status.REQUESTED


class OrderLineSerializer(serializers.ModelSerializer[OrderLine]):
    unit_price = MoneyField(read_only=True)
    total = MoneyField(read_only=True)

    class Meta:
        model = OrderLine
        fields = ["sku", "name", "quantity", "unit_price", "total"]
        read_only_fields = fields


def _show_refunds(context: Mapping[str, Any], orders: Sequence[Order]) -> None:
    """Read the refunds of these orders, once for all serializers of an answer."""
    cast("dict[str, Any]", context)["refunded"] = queries.refunded(orders)  # the stubs lack it


class OrderListSerializer(serializers.ListSerializer[Any]):
    """Reads the refunds of all orders of a page in one query."""

    def to_representation(self, data: Any) -> list[Any]:
        orders = list(data)
        _show_refunds(self.context, orders)
        return super().to_representation(orders)


class OrderSerializer(serializers.ModelSerializer[Order]):
    cancel_reason = serializers.ChoiceField(
        [("", _("not cancelled")), *Order.CancelReason.choices], read_only=True
    )
    total = MoneyField(read_only=True)
    lines = OrderLineSerializer(many=True, read_only=True)
    # No `format: email` in the schema, as an empty text has none.
    email = serializers.CharField(
        read_only=True,
        help_text="The address for e-mails about the order. Empty after an erasure of the "
        "customer's data.",
    )
    refund_status = serializers.SerializerMethodField(
        help_text="State of the order's refunds, also of the refund after a cancellation. "
        "`requested` until the bank has confirmed each of them."
    )
    refunded = serializers.SerializerMethodField(help_text="What the bank has refunded so far.")
    refunds = serializers.SerializerMethodField(help_text="Refunds that staff requested.")

    class Meta:
        model = Order
        list_serializer_class = OrderListSerializer
        fields = [
            "id",
            "reference",
            "status",
            "cancel_reason",
            "total",
            "lines",
            "refund_status",
            "refunded",
            "refunds",
            "email",
            "language",
            "carrier",
            "tracking_number",
            "placed_at",
            "changed_at",
        ]
        read_only_fields = fields

    def to_representation(self, order: Order) -> dict[str, Any]:
        if order.pk not in self.context.get("refunded", {}):
            _show_refunds(self.context, [order])
        return super().to_representation(order)

    @extend_schema_field(serializers.ChoiceField(queries.RefundStatus.choices))
    def get_refund_status(self, order: Order) -> str:
        return self._refunded(order).status

    @extend_schema_field(MoneyField)
    def get_refunded(self, order: Order) -> Any:
        return MoneyField().to_representation(self._refunded(order).amount)

    @extend_schema_field(RefundSerializer(many=True))
    def get_refunds(self, order: Order) -> Any:
        requested = self._refunded(order).requested
        return RefundSerializer(requested, many=True, context=self.context).data

    def _refunded(self, order: Order) -> queries.Refunded:
        shown: dict[UUID, queries.Refunded] = self.context["refunded"]
        return shown[order.pk]


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
