"""Views of the catalogue."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework.generics import ListAPIView
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response

from api import SafeCursorPagination, link, links
from inventory import queries
from inventory.models import Product
from inventory.serializers import ProductSerializer

FIRST_PRODUCT = {
    "payment_method": "tok_success",
    "lines": [{"sku": "$response.body#/results/0/sku", "quantity": 1}],
}


class BySku(SafeCursorPagination):
    ordering = "sku"
    page_size = 100


class ProductList(ListAPIView[Product]):
    permission_classes = [AllowAny]  # the catalogue is public
    serializer_class = ProductSerializer
    pagination_class = BySku

    def get_queryset(self) -> QuerySet[Product]:
        return queries.catalogue()

    @extend_schema(
        operation_id="list_products",
        summary="Products on sale",
        tags=["products"],
        extensions=links(link("place_order", body=FIRST_PRODUCT)),
    )
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        return super().get(request, *args, **kwargs)
