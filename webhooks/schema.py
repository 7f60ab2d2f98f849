"""The section `webhooks` of the schema: the messages to customers' systems.

The shapes are those of `webhooks.payloads`; a test compares each message with them.
"""

from __future__ import annotations

from typing import Any

from django.utils.functional import Promise
from drf_spectacular.utils import OpenApiResponse, OpenApiWebhook, extend_schema
from rest_framework import serializers

from api import MoneyField
from webhooks.models import EventType
from webhooks.payloads import PING

_ANSWERS = {
    "2XX": OpenApiResponse(
        description="The message is accepted. The body of the answer is ignored."
    ),
    "410": OpenApiResponse(description="The webhook is disabled at once."),
    "default": OpenApiResponse(
        description="The message is sent again later, for up to three days. `Retry-After` is "
        "respected."
    ),
}
_HEADERS = {
    "webhook-id": ("string", "The same at each attempt to send this message."),
    "webhook-timestamp": ("string", "The time of this attempt, in seconds since 1970."),
    "webhook-signature": ("string", "`v1,` and HMAC-SHA256 in Base64; one for each secret."),
}


class WebhookOrderLine(serializers.Serializer[Any]):
    sku = serializers.CharField()
    name = serializers.CharField()
    quantity = serializers.IntegerField(min_value=1)
    unit_price = MoneyField()
    total = MoneyField()


class WebhookOrder(serializers.Serializer[Any]):
    """The order as it was when the message was written. Fields may be added."""

    id = serializers.UUIDField()
    reference = serializers.CharField()
    status = serializers.CharField(help_text="As in `GET /api/orders/{id}/`.")
    cancel_reason = serializers.CharField(allow_blank=True)
    total = MoneyField()
    lines = WebhookOrderLine(many=True)
    carrier = serializers.CharField(allow_blank=True)
    tracking_number = serializers.CharField(allow_blank=True)
    placed_at = serializers.DateTimeField()
    changed_at = serializers.DateTimeField(help_text="Use this to decide which message is newer.")


class WebhookRefund(serializers.Serializer[Any]):
    id = serializers.CharField(
        allow_blank=True,
        help_text="The id in the answer to the refund; empty for a very old one. The refund of a "
        "cancellation has an id of its own, which `refunds` of the order does not list.",
    )
    amount = MoneyField()


class WebhookOrderData(serializers.Serializer[Any]):
    order = WebhookOrder()


class WebhookRefundData(WebhookOrderData):
    refund = WebhookRefund()


def _webhook(
    kind: str, summary: str | Promise, data: serializers.Field[Any, Any, Any, Any]
) -> OpenApiWebhook:
    """Describe the messages of one type. The schema has the summary in the request's language."""
    name = "".join(part.title() for part in kind.replace(".", "_").split("_"))
    body = type(
        f"{name}Message",
        (serializers.Serializer,),
        {
            "type": serializers.ChoiceField([kind]),
            "timestamp": serializers.DateTimeField(help_text="The time of the event."),
            "data": data,
        },
    )
    described = extend_schema(
        summary=summary,
        description="Signed according to Standard Webhooks 1.0.0. Verify the signature over "
        "the unchanged body.",
        tags=["webhooks"],
        request={"application/json": body},
        responses=_ANSWERS,
    )
    return OpenApiWebhook(kind, described)


WEBHOOKS = [
    *(
        _webhook(
            kind.value,
            kind.label,
            WebhookRefundData() if kind == EventType.REFUNDED else WebhookOrderData(),
        )
        for kind in EventType
    ),
    _webhook(PING, "a test message", serializers.DictField(help_text="Empty.")),
]


def add_headers(
    result: dict[str, Any], generator: Any, request: Any, public: bool
) -> dict[str, Any]:
    """Add to each message the headers that authenticate it."""
    for path in result.get("webhooks", {}).values():
        path["post"]["parameters"] = [
            {
                "name": name,
                "in": "header",
                "required": True,
                "schema": {"type": kind},
                "description": text,
            }
            for name, (kind, text) in _HEADERS.items()
        ]
    return result
