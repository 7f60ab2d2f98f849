"""Views of webhooks: each validates the request and makes one call inward."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet
from django.http import Http404, HttpResponseBase
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import (
    OpenApiExample,
    OpenApiParameter,
    OpenApiResponse,
    extend_schema,
)
from rest_framework import status
from rest_framework.generics import GenericAPIView, ListAPIView
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.reverse import reverse
from rest_framework.views import APIView

from api import (
    FIRST_ID,
    IDEMPOTENCY_KEY,
    IF_NONE_MATCH,
    ITS_ID,
    SAME_ID,
    NewestFirstPagination,
    NothingSerializer,
    answer_once,
    if_changed,
    link,
    links,
)
from webhooks import queries, services
from webhooks.models import Attempt, Endpoint, EventType
from webhooks.problems import TooManyWebhooks, WebhookDisabled, WebhookDisabledByStaff
from webhooks.serializers import (
    AddWebhookSerializer,
    ChangeWebhookSerializer,
    NewWebhookSerializer,
    WebhookDeliverySerializer,
    WebhookMessageSerializer,
    WebhookSerializer,
)
from webhooks.throttles import LookupThrottle

UNKNOWN = OpenApiResponse(description="You have no such webhook.")
NOT_ADDED = OpenApiResponse(
    description="You have the maximum number of webhooks, or staff disabled one with this host."
)
DISABLED = OpenApiResponse(description="The webhook is disabled.")
HELD = OpenApiResponse(description="Staff disabled the webhook, or one with the new URL's host.")
REMOVED = OpenApiResponse(description="The webhook is removed.")
LOCATION = OpenApiParameter(
    "Location",
    OpenApiTypes.URI,
    OpenApiParameter.HEADER,
    response=[201],
    description="URL of the webhook.",
)

ADDING = OpenApiExample(
    "all event types",
    {"url": "https://hooks.example.com/shop", "event_types": EventType.values},
    request_only=True,
)
DISABLED_BY_OWNER = {"enabled": False}
CHANGING = OpenApiExample("disable it", DISABLED_BY_OWNER, request_only=True)


class OwnWebhook(GenericAPIView[Endpoint]):
    """What a view of one webhook shares: other people's are not found."""

    serializer_class = WebhookSerializer

    def get_queryset(self) -> QuerySet[Endpoint]:
        return queries.endpoints_of(self.request.user)

    def handle_exception(self, exc: Exception) -> Response:
        """Return 404 for a webhook that its owner removes at the same time."""
        return super().handle_exception(
            Http404() if isinstance(exc, Endpoint.DoesNotExist) else exc
        )


class WebhookList(ListAPIView[Endpoint]):
    throttle_classes = [*APIView.throttle_classes, LookupThrottle]
    serializer_class = WebhookSerializer
    pagination_class = NewestFirstPagination

    def get_queryset(self) -> QuerySet[Endpoint]:
        return queries.endpoints_of(self.request.user)

    @extend_schema(
        operation_id="list_webhooks",
        summary="Your webhooks, newest first",
        tags=["webhooks"],
        responses={200: WebhookSerializer},
        extensions=links(link("get_webhook", id=FIRST_ID)),
    )
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        return super().get(request, *args, **kwargs)

    @extend_schema(
        operation_id="add_webhook",
        summary="Add a webhook for events of your orders",
        description=(
            "Each event of the chosen types is sent to the URL, signed according to "
            "Standard Webhooks. The answer has the secret, which is shown only once. Several "
            "webhooks may have the same URL: a repetition after 24 hours adds another one."
        ),
        tags=["webhooks"],
        request=AddWebhookSerializer,
        parameters=[IDEMPOTENCY_KEY, LOCATION],
        responses={201: NewWebhookSerializer, 409: NOT_ADDED},
        examples=[ADDING],
        extensions=links(
            link("get_webhook", id=ITS_ID),
            link("change_webhook", id=ITS_ID, body=DISABLED_BY_OWNER),
            link("test_webhook", id=ITS_ID),
            link("list_webhook_deliveries", id=ITS_ID),
            link("rotate_webhook_secret", id=ITS_ID),
            link("remove_webhook", id=ITS_ID),
        ),
    )
    def post(self, request: Request) -> Response:
        wanted = AddWebhookSerializer(data=request.data)
        wanted.is_valid(raise_exception=True)
        return answer_once(request, lambda: _add(request, wanted.validated_data))


class WebhookDetail(OwnWebhook):
    throttle_classes = [*APIView.throttle_classes, LookupThrottle]

    @extend_schema(
        operation_id="get_webhook",
        summary="A webhook and its state",
        tags=["webhooks"],
        parameters=[IF_NONE_MATCH],
        responses={200: WebhookSerializer, 404: UNKNOWN},
        extensions=links(
            link("change_webhook", id=SAME_ID, body=DISABLED_BY_OWNER),
            link("list_webhook_deliveries", id=SAME_ID),
            link("remove_webhook", id=SAME_ID),
        ),
    )
    def get(self, request: Request, **_: Any) -> HttpResponseBase:
        return if_changed(request, Response(self.get_serializer(self.get_object()).data))

    @extend_schema(
        operation_id="change_webhook",
        summary="Change, disable or enable a webhook",
        description="Omitted fields do not change. Events from the time when it was disabled "
        "are not sent.",
        tags=["webhooks"],
        request=ChangeWebhookSerializer,
        responses={200: WebhookSerializer, 404: UNKNOWN, 409: HELD},
        examples=[CHANGING],
        extensions=links(link("get_webhook", id=SAME_ID), link("test_webhook", id=SAME_ID)),
    )
    def patch(self, request: Request, **_: Any) -> Response:
        endpoint = self.get_object()
        wanted = ChangeWebhookSerializer(data=request.data, partial=True)
        wanted.is_valid(raise_exception=True)
        return Response(self.get_serializer(_change(endpoint, wanted.validated_data)).data)

    @extend_schema(
        operation_id="remove_webhook",
        summary="Remove a webhook and its log",
        tags=["webhooks"],
        description="Not possible while it is disabled by staff.",
        responses={204: REMOVED, 404: UNKNOWN, 409: HELD},
        extensions=links(link("get_webhook", id=SAME_ID)),
    )
    def delete(self, _request: Request, **_: Any) -> Response:
        return _remove(self.get_object())


class WebhookDeliveries(ListAPIView[Attempt]):
    serializer_class = WebhookDeliverySerializer
    pagination_class = NewestFirstPagination

    def get_queryset(self) -> QuerySet[Attempt]:
        return queries.attempts_at(self.request.user, self.kwargs["pk"])

    @extend_schema(
        operation_id="list_webhook_deliveries",
        summary="Delivery attempts, newest first",
        description=(
            "Includes the reasons of postponed attempts (the webhook is paused after "
            "a failure) and dropped messages (it is disabled). Kept for 30 days."
        ),
        tags=["webhooks"],
        responses={200: WebhookDeliverySerializer, 404: UNKNOWN},
    )
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        return super().get(request, *args, **kwargs)


class WebhookSecret(OwnWebhook):
    @extend_schema(
        operation_id="rotate_webhook_secret",
        summary="Get a new secret",
        description=(
            "For 24 hours each message is signed with both secrets. A further rotation in this "
            "time ends the older one at once. The answer has the new secret, which is shown only "
            "once."
        ),
        tags=["webhooks"],
        request=None,
        parameters=[IDEMPOTENCY_KEY],
        responses={200: NewWebhookSerializer, 404: UNKNOWN},
        extensions=links(link("get_webhook", id=SAME_ID)),
    )
    def post(self, request: Request, **_: Any) -> Response:
        endpoint = self.get_object()
        NothingSerializer(data=request.data).is_valid(raise_exception=True)
        return answer_once(
            request,
            lambda: Response(
                NewWebhookSerializer(services.rotate_secret(endpoint_id=endpoint.pk)).data
            ),
        )


class WebhookTest(OwnWebhook):
    throttle_classes = [*APIView.throttle_classes, LookupThrottle]

    @extend_schema(
        operation_id="test_webhook",
        summary="Send a test message",
        description="Sends a message of the type `ping`. The deliveries show its result.",
        tags=["webhooks"],
        request=None,
        parameters=[IDEMPOTENCY_KEY],
        responses={202: WebhookMessageSerializer, 404: UNKNOWN, 409: DISABLED},
        extensions=links(link("list_webhook_deliveries", id=SAME_ID)),
    )
    def post(self, request: Request, **_: Any) -> Response:
        endpoint = self.get_object()
        NothingSerializer(data=request.data).is_valid(raise_exception=True)
        return answer_once(request, lambda: _ping(endpoint))


def _add(request: Request, wanted: dict[str, Any]) -> Response:
    assert request.user.is_authenticated
    try:
        endpoint = services.add_endpoint(owner=request.user, **wanted)
    except services.TooManyEndpoints as error:
        raise TooManyWebhooks from error
    except services.DisabledByStaff as error:
        raise WebhookDisabledByStaff from error
    url = reverse("webhooks:webhook", args=[endpoint.pk], request=request)
    return Response(
        NewWebhookSerializer(endpoint).data,
        status=status.HTTP_201_CREATED,
        headers={"Location": url},
    )


def _change(endpoint: Endpoint, changes: dict[str, Any]) -> Endpoint:
    try:
        return services.change_endpoint(endpoint_id=endpoint.pk, changes=changes)
    except services.DisabledByStaff as error:
        raise WebhookDisabledByStaff from error


def _remove(endpoint: Endpoint) -> Response:
    try:
        services.remove_endpoint(endpoint_id=endpoint.pk)
    except services.DisabledByStaff as error:
        raise WebhookDisabledByStaff from error
    return Response(status=status.HTTP_204_NO_CONTENT)


def _ping(endpoint: Endpoint) -> Response:
    try:
        message = services.ping(endpoint_id=endpoint.pk)
    except services.EndpointIsDisabled as error:
        raise WebhookDisabled from error
    return Response(WebhookMessageSerializer(message).data, status=status.HTTP_202_ACCEPTED)
