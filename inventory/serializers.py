"""The shape of a product in the API."""

from __future__ import annotations

from rest_framework import serializers

from api import MoneyField
from inventory.models import Product


class ProductSerializer(serializers.ModelSerializer[Product]):
    name = serializers.CharField(
        source="local_name", read_only=True, help_text="In the language of the request."
    )
    price = MoneyField(source="unit_price", read_only=True)
    available = serializers.IntegerField(
        read_only=True, help_text="Units that an order could reserve now."
    )

    class Meta:
        model = Product
        fields = ["sku", "name", "price", "available"]
