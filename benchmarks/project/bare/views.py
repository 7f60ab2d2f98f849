"""A plain view that stores the same rows as `POST /api/orders/`, and checks only types.

It has no idempotency, no limits of requests, no encryption and no tracing. The rows of the stored
answer and of the event are inserted by the ORM.
"""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from django.db import transaction
from django.utils import timezone
from rest_framework import serializers
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from api.models import StoredAnswer
from api.tokens import TokenAuthentication
from inventory.models import Product
from orders.models import Order, OrderHistory, OrderLine
from outbox.models import Event


class LineSerializer(serializers.Serializer[Any]):
    sku = serializers.CharField()
    quantity = serializers.IntegerField()


class OrderSerializer(serializers.Serializer[Any]):
    payment_method = serializers.CharField()
    lines = LineSerializer(many=True)


class PlaceOrder(APIView):
    authentication_classes = [TokenAuthentication]
    throttle_classes: list[Any] = []
    renderer_classes = [JSONRenderer]

    def post(self, request: Request) -> Response:
        wanted = OrderSerializer(data=request.data)
        wanted.is_valid(raise_exception=True)
        with transaction.atomic():
            answer = _store(request.user, wanted.validated_data)
            StoredAnswer.objects.create(
                user=request.user, path=request.path, key=uuid4().hex, sealed=str(answer)
            )
        return Response(answer, status=201)


def _store(user: Any, wanted: dict[str, Any]) -> dict[str, Any]:
    products = Product.objects.in_bulk([line["sku"] for line in wanted["lines"]])
    sold = [(products[line["sku"]], line["quantity"]) for line in wanted["lines"]]
    total = sum(product.unit_price.amount * quantity for product, quantity in sold)
    order = Order(
        customer=user,
        email=user.email,
        language="en",
        status=Order.Status.PLACED,
        total_amount=total,
        currency=sold[0][0].unit_price.currency,
        awaits=Order.Awaits.STOCK,
        deadline_at=timezone.now(),
        placed_with=uuid4().hex,
    )
    order.save(force_insert=True)
    OrderHistory.objects.create(order=order, to_status=order.status, cause="orders.place_order")
    lines = [
        OrderLine(
            order=order,
            sku=product.sku,
            name=product.name,
            unit_amount=product.unit_price.amount,
            currency=product.unit_price.currency,
            quantity=quantity,
        )
        for product, quantity in sold
    ]
    OrderLine.objects.bulk_create(lines)
    Event.objects.create(
        name="orders.OrderPlaced",
        key=str(order.pk),
        payload={
            "order_id": str(order.pk),
            "lines": [{"sku": line.sku, "quantity": line.quantity} for line in lines],
            "total": {"amount": total, "currency": order.currency},
            "payment_method": wanted["payment_method"],
        },
        emitted_at=timezone.now(),
        correlation_id=uuid4(),
        actor=f"user:{user.pk}",
    )
    return {
        "id": str(order.pk),
        "reference": order.reference,
        "status": order.status,
        "total": {"amount": total, "currency": order.currency},
        "lines": [{"sku": line.sku, "quantity": line.quantity} for line in lines],
    }
