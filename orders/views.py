"""Views of orders: each validates the request and makes one call inward."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet
from django.http import HttpResponseBase
from django.utils.translation import get_language_from_request, gettext
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import (
    OpenApiExample,
    OpenApiParameter,
    OpenApiResponse,
    extend_schema,
)
from rest_framework import status
from rest_framework.exceptions import ErrorDetail, ValidationError
from rest_framework.generics import GenericAPIView, ListAPIView
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.reverse import reverse

from api import (
    FIRST_ID,
    IDEMPOTENCY_KEY,
    IF_NONE_MATCH,
    ITS_ID,
    SAME_ID,
    AnswerGone,
    ForwardPagination,
    NewestFirstPagination,
    answer_once,
    digest_of_key,
    if_changed,
    link,
    links,
)
from orders import queries, services
from orders.models import Order
from orders.problems import TotalChanged
from orders.serializers import (
    OrderSerializer,
    PlaceOrderSerializer,
    TimelineEventSerializer,
)
from outbox import timeline_of
from shared.mail import is_sendable
from shared.money import CurrencyMismatch, Money

UNKNOWN = OpenApiResponse(description="You have no such order.")
NOT_PLACED = OpenApiResponse(
    description="The total differs from `expected_total`, or a request with this "
    "`Idempotency-Key` was processed before, and its answer is no longer stored."
)
LOCATION = OpenApiParameter(
    "Location",
    OpenApiTypes.URI,
    OpenApiParameter.HEADER,
    response=[201],
    description="URL of the order.",
)
PARCEL = {"carrier": "Yamato", "tracking_number": "4711"}
ALL_THAT_IS_LEFT = {"return_stock": True}
PLACING = OpenApiExample(
    "two bags of tea",
    {"payment_method": "tok_success", "lines": [{"sku": "TEA-SENCHA", "quantity": 2}]},
    request_only=True,
)


class OrderList(ListAPIView[Order]):
    serializer_class = OrderSerializer
    pagination_class = NewestFirstPagination

    def get_queryset(self) -> QuerySet[Order]:
        return queries.orders_of(self.request.user)

    @extend_schema(
        operation_id="list_orders",
        summary="Your orders, newest first",
        tags=["orders"],
        responses={200: OrderSerializer},
        extensions=links(link("get_order", id=FIRST_ID)),
    )
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        return super().get(request, *args, **kwargs)

    @extend_schema(
        operation_id="place_order",
        summary="Place an order",
        description=(
            "The order is stored at once. Stock and payment are processed later: its "
            "`status` becomes `ready_to_ship`, or `cancelled` with a "
            "`cancel_reason`. A key places one order for good: after 24 hours a repetition gets "
            "409, `idempotency_answer_gone`."
        ),
        tags=["orders"],
        request=PlaceOrderSerializer,
        parameters=[IDEMPOTENCY_KEY, LOCATION],
        responses={201: OrderSerializer, 409: NOT_PLACED},
        examples=[PLACING],
        extensions=links(
            link("get_order", id=ITS_ID),
            link("get_order_timeline", id=ITS_ID),
            link("cancel_order", id=ITS_ID),
            link("ship_order", id=ITS_ID, body=PARCEL),
            link("refund_order", id=ITS_ID, body=ALL_THAT_IS_LEFT),
        ),
    )
    def post(self, request: Request) -> Response:
        wanted = PlaceOrderSerializer(data=request.data)
        wanted.is_valid(raise_exception=True)
        return answer_once(request, lambda: self._place(request, wanted.validated_data))

    def _place(self, request: Request, wanted: dict[str, Any]) -> Response:
        order = _place(request, **wanted)
        url = reverse("orders:order", args=[order.pk], request=request)
        return Response(
            OrderSerializer(order).data,
            status=status.HTTP_201_CREATED,
            headers={"Location": url},
        )


class OrderDetail(GenericAPIView[Order]):
    serializer_class = OrderSerializer

    def get_queryset(self) -> QuerySet[Order]:
        return queries.orders_seen_by(self.request.user)

    @extend_schema(
        operation_id="get_order",
        summary="One order",
        tags=["orders"],
        parameters=[IF_NONE_MATCH],
        responses={200: OrderSerializer, 404: UNKNOWN},
        extensions=links(
            link("get_order_timeline", id=SAME_ID),
            link("cancel_order", id=SAME_ID),
            link("ship_order", id=SAME_ID, body=PARCEL),
            link("refund_order", id=SAME_ID, body=ALL_THAT_IS_LEFT),
        ),
    )
    def get(self, request: Request, **_: Any) -> HttpResponseBase:
        order = self.get_object()
        return if_changed(request, Response(self.get_serializer(order).data))


class OrderTimeline(GenericAPIView[Order]):
    serializer_class = TimelineEventSerializer
    pagination_class = ForwardPagination

    def get_queryset(self) -> QuerySet[Order]:
        return queries.orders_seen_by(self.request.user)

    @extend_schema(
        operation_id="get_order_timeline",
        summary="The timeline of an order",
        description=(
            "The events of the order and the events that these caused, oldest first, "
            "each with its deliveries to handlers. Within a page an event follows "
            "its cause. `next` is the next page. `previous` is always null."
        ),
        tags=["orders"],
        responses={200: TimelineEventSerializer(many=True), 404: UNKNOWN},
        extensions=links(link("get_order", id=SAME_ID)),
    )
    def get(self, request: Request, **_: Any) -> Response:
        order = self.get_object()
        # The reason may quote an exception, so only staff with the permission see it.
        may_know = request.user.has_perm("outbox.view_delivery")
        pages = ForwardPagination()
        events = pages.page_of(
            request,
            lambda after, most: timeline_of(
                key=str(order.pk), after=after, most=most, explained=may_know
            ),
            number=lambda event: event.seq,
        )
        return pages.get_paginated_response(self.get_serializer(events, many=True).data)


def _place(
    request: Request,
    *,
    lines: list[dict[str, Any]],
    payment_method: str,
    email: str = "",
    language: str = "",
    expected_total: dict[str, Any] | None = None,
) -> Order:
    assert request.user.is_authenticated
    try:
        return services.place_order(
            customer=request.user,
            lines=[services.WantedLine(**line) for line in lines],
            payment_method=payment_method,
            email=email or _own_address(request),
            language=language or get_language_from_request(request),
            key_digest=digest_of_key(request),
            expected_total=Money(**expected_total) if expected_total else None,
        )
    except services.PlacedBefore as refusal:
        raise AnswerGone from refusal
    except services.NotForSale as refusal:
        raise ValidationError({"lines": [_not_for_sale(line, refusal) for line in lines]}) from None
    except services.TotalTooLarge as refusal:
        text = gettext("The total of the order is too large. Order fewer units.")
        raise ValidationError({"lines": [ErrorDetail(text, "total_too_large")]}) from refusal
    except services.TotalChanged as refusal:
        raise TotalChanged(_totals(refusal)) from refusal
    except CurrencyMismatch as refusal:
        text = gettext("The products have prices in several currencies. Order them separately.")
        raise ValidationError({"lines": [ErrorDetail(text, "mixed_currencies")]}) from refusal


def _not_for_sale(
    line: dict[str, Any], refusal: services.NotForSale
) -> dict[str, list[ErrorDetail]]:
    if line["sku"] not in refusal.skus:
        return {}
    text = gettext("Not for sale: %(sku)s.") % {"sku": line["sku"]}
    return {"sku": [ErrorDetail(text, "not_for_sale")]}


def _totals(refusal: services.TotalChanged) -> str:
    text = gettext("The total of the order is %(total)s. The request expects %(expected)s.")
    return text % {"total": refusal.total, "expected": refusal.expected}


def _own_address(request: Request) -> str:
    address: str = getattr(request.user, "email", "")
    if not address:
        raise ValidationError(
            {"email": [gettext("Your account has no e-mail address. Set the field `email`.")]}
        )
    if not is_sendable(address):
        text = gettext(
            "No e-mail can be sent to the address of your account. Set the field "
            "`email` to another address."
        )
        raise ValidationError({"email": [text]})
    return address
