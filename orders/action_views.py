"""Views that cancel, ship and refund orders; the other views are in `views`."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet, prefetch_related_objects
from django.utils.translation import gettext
from drf_spectacular.utils import OpenApiExample, OpenApiResponse, extend_schema
from rest_framework import status
from rest_framework.exceptions import ErrorDetail, ValidationError
from rest_framework.generics import GenericAPIView
from rest_framework.permissions import BasePermission, IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from api import (
    IDEMPOTENCY_KEY,
    SAME_ID,
    AnswerGone,
    NothingSerializer,
    answer_once,
    digest_of_key,
    link,
    links,
)
from orders import queries, services
from orders.models import Order
from orders.problems import (
    NOTHING_TO_SHIP,
    NothingToRefund,
    OrderNotCancellable,
    OrderNotRefundable,
    OrderNotShippable,
    RefundTooLarge,
)
from orders.serializers import (
    OrderSerializer,
    RefundOrderSerializer,
    RefundSerializer,
    ShipOrderSerializer,
)
from orders.views import ALL_THAT_IS_LEFT, PARCEL, UNKNOWN
from shared.money import CurrencyMismatch, Money

NOT_CANCELLABLE = OpenApiResponse(description="The order is shipped already.")
NOT_SHIPPABLE = OpenApiResponse(description="The order is not ready to ship, or is cancelled.")
NOT_REFUNDABLE = OpenApiResponse(
    description="The refund exceeds the remaining amount, the order cannot be refunded, or a "
    "request with this `Idempotency-Key` was processed before, and its answer is no longer stored."
)

LOOKS = (link("get_order", id=SAME_ID), link("get_order_timeline", id=SAME_ID))
SHIPPING = OpenApiExample("a parcel", PARCEL, request_only=True)
REFUNDING = OpenApiExample(
    "one bag of tea",
    {"return_stock": True, "lines": [{"sku": "TEA-SENCHA", "quantity": 1}]},
    request_only=True,
)


class OwnerOrMayCancel(BasePermission):
    def has_object_permission(self, request: Request, _view: APIView, order: Order) -> bool:
        return order.customer_id == request.user.pk or request.user.has_perm("orders.cancel_order")


class MayShip(BasePermission):
    def has_permission(self, request: Request, _view: APIView) -> bool:
        return request.user.has_perm("orders.ship_order")


class MayRefund(BasePermission):
    def has_permission(self, request: Request, _view: APIView) -> bool:
        return request.user.has_perm("orders.refund_order")


class OrderCancellation(GenericAPIView[Order]):
    permission_classes = [IsAuthenticated, OwnerOrMayCancel]
    serializer_class = OrderSerializer

    def get_queryset(self) -> QuerySet[Order]:
        return queries.orders_seen_by(self.request.user)

    @extend_schema(
        operation_id="cancel_order",
        summary="Cancel an order",
        description=(
            "For the customer, and for staff with the permissions *Can view order* and *Can cancel "
            "orders*. Cancels the whole order, so the body has no fields. Possible until the order "
            "is shipped. Its stock is released, and its payment is voided or refunded. A "
            "repetition changes nothing and gets the same answer."
        ),
        tags=["orders"],
        request=None,
        parameters=[IDEMPOTENCY_KEY],
        responses={200: OrderSerializer, 404: UNKNOWN, 409: NOT_CANCELLABLE},
        extensions=links(*LOOKS),
    )
    def post(self, request: Request, **_: Any) -> Response:
        order = self.get_object()
        NothingSerializer(data=request.data).is_valid(raise_exception=True)
        return answer_once(request, lambda: _cancel(request, order))


class OrderShipping(GenericAPIView[Order]):
    permission_classes = [IsAuthenticated, MayShip]
    serializer_class = ShipOrderSerializer

    def get_queryset(self) -> QuerySet[Order]:
        return queries.orders_seen_by(self.request.user)

    @extend_schema(
        operation_id="ship_order",
        summary="Mark an order as shipped",
        description=(
            "For staff with the permissions *Can view order* and *Can mark orders as shipped and "
            "received*. A repetition changes nothing and gets the order as it is now."
        ),
        tags=["orders"],
        parameters=[IDEMPOTENCY_KEY],
        responses={200: OrderSerializer, 404: UNKNOWN, 409: NOT_SHIPPABLE},
        examples=[SHIPPING],
        extensions=links(*LOOKS, link("refund_order", id=SAME_ID, body=ALL_THAT_IS_LEFT)),
    )
    def post(self, request: Request, **_: Any) -> Response:
        parcel = self.get_serializer(data=request.data)
        parcel.is_valid(raise_exception=True)
        order = self.get_object()
        return answer_once(request, lambda: _ship(request, order, **parcel.validated_data))


class OrderRefunds(GenericAPIView[Order]):
    permission_classes = [IsAuthenticated, MayRefund]
    serializer_class = RefundOrderSerializer

    def get_queryset(self) -> QuerySet[Order]:
        return queries.orders_seen_by(self.request.user)

    @extend_schema(
        operation_id="refund_order",
        summary="Refund an order",
        description=(
            "For staff with the permissions *Can view order* and *Can refund orders*. Refunds the "
            "given lines or amount, and without either all that is left. The bank is asked later. "
            "A key requests one refund of an order for good: after 24 hours a repetition gets 409, "
            "`idempotency_answer_gone`."
        ),
        tags=["orders"],
        parameters=[IDEMPOTENCY_KEY],
        responses={201: RefundSerializer, 404: UNKNOWN, 409: NOT_REFUNDABLE},
        examples=[REFUNDING],
        extensions=links(*LOOKS),
    )
    def post(self, request: Request, **_: Any) -> Response:
        wanted = self.get_serializer(data=request.data)
        wanted.is_valid(raise_exception=True)
        order = self.get_object()
        return answer_once(request, lambda: _refund(request, order, **wanted.validated_data))


def _doer(request: Request) -> str:
    # Not the name: it may be an address, and an erasure does not reach the history.
    return f"user:{request.user.pk}"


def _cancel(request: Request, order: Order) -> Response:
    try:
        order = services.cancel_order(order_id=order.pk, by=_doer(request))
    except services.NotCancellable as error:
        raise OrderNotCancellable from error
    return Response(OrderSerializer(order).data)


def _ship(request: Request, order: Order, **parcel: str) -> Response:
    try:
        order = services.ship_order(order_id=order.pk, by=_doer(request), **parcel)
    except services.NothingToShip as error:
        raise OrderNotShippable(NOTHING_TO_SHIP) from error
    except Order.InvalidTransition as error:
        raise OrderNotShippable from error
    return Response(OrderSerializer(order).data)


def _refund(
    request: Request,
    order: Order,
    *,
    return_stock: bool,
    lines: list[dict[str, Any]] | None = None,
    amount: dict[str, Any] | None = None,
) -> Response:
    try:
        refund = services.request_refund(
            order_id=order.pk,
            lines=[services.WantedLine(**line) for line in lines or ()],
            amount=Money(**amount) if amount else None,
            return_stock=return_stock,
            by=_doer(request),
            key_digest=digest_of_key(request),
        )
    except services.RequestedBefore as error:
        raise AnswerGone from error
    except CurrencyMismatch as error:
        text = gettext("The order was paid in %(currency)s.") % {"currency": order.currency}
        faults = {"amount": {"currency": [ErrorDetail(text, "other_currency")]}}
        raise ValidationError(faults) from error
    except services.RefundTooLarge as error:
        raise RefundTooLarge from error
    except services.NothingToRefund as error:
        raise NothingToRefund from error
    except services.NotRefundable as error:
        raise OrderNotRefundable from error
    prefetch_related_objects([refund], "lines__line")
    return Response(RefundSerializer(refund).data, status=status.HTTP_201_CREATED)
