"""The shape of a product in the API."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from inventory.models import Product
from money import Money


@extend_schema_field(Money.model_json_schema(mode="serialization"))
class MoneyField(serializers.Field[Money, None, dict[str, Any], Any]):
    """An amount in minor units and its currency."""

    def to_representation(self, value: Money) -> dict[str, Any]:
        return value.model_dump()


class ProductSerializer(serializers.ModelSerializer[Product]):
    price = MoneyField(source="unit_price", read_only=True)
    available = serializers.IntegerField(
        read_only=True, help_text="Units that an order could reserve now."
    )

    class Meta:
        model = Product
        fields = ["sku", "name", "price", "available"]
