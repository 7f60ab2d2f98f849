"""The shapes of webhooks in the API."""

from __future__ import annotations

from typing import Any

from django.utils.translation import gettext_lazy as _
from rest_framework import serializers

from api import BoundedListField, StrictBooleanField, StrictCharField, StrictSerializer
from webhooks.addresses import LONGEST_URL, AddressRefused, require_allowed
from webhooks.models import Attempt, Endpoint, EventType, Message
from webhooks.payloads import PING


class AddWebhookSerializer(StrictSerializer):
    url = StrictCharField(
        max_length=LONGEST_URL,
        help_text="An https:// URL with port 443 or 8443 on an internet host.",
    )
    event_types = BoundedListField(
        child=serializers.ChoiceField(choices=EventType.choices),
        min_length=1,
        max_length=len(EventType),
        help_text="Without duplicates.",
    )
    description = StrictCharField(max_length=200, required=False, allow_blank=True)

    def validate_url(self, url: str) -> str:
        try:
            require_allowed(url)
        except AddressRefused as refusal:
            raise serializers.ValidationError(str(refusal), "url_refused") from refusal
        return url

    def validate_event_types(self, kinds: list[str]) -> list[str]:
        if len(set(kinds)) < len(kinds):
            raise serializers.ValidationError(_("Each event type must occur only once."))
        return kinds


class ChangeWebhookSerializer(AddWebhookSerializer):
    enabled = StrictBooleanField()


class WebhookSerializer(serializers.ModelSerializer[Endpoint]):
    event_types = serializers.ListField(
        child=serializers.ChoiceField(choices=EventType.choices), read_only=True
    )
    enabled = serializers.BooleanField(read_only=True)
    disabled_because = serializers.ChoiceField(
        [("", _("not disabled")), *Endpoint.Disabled.choices], read_only=True
    )

    class Meta:
        model = Endpoint
        fields = [
            "id",
            "url",
            "url_state",
            "description",
            "event_types",
            "enabled",
            "disabled_because",
            "disabled_note",
            "disabled_at",
            "failing_since",
            "last_success_at",
            "last_failure_at",
            "last_failure",
            "old_secret_until",
            "created_at",
        ]
        read_only_fields = fields


class NewWebhookSerializer(WebhookSerializer):
    """A webhook with its secret, which is shown only once."""

    secret = serializers.CharField(read_only=True, help_text="Shown only once: whsec_...")

    class Meta(WebhookSerializer.Meta):
        fields = [*WebhookSerializer.Meta.fields, "secret"]
        read_only_fields = fields


class WebhookMessageSerializer(serializers.ModelSerializer[Message]):
    type = serializers.CharField(read_only=True)

    class Meta:
        model = Message
        fields = ["id", "type", "created_at"]
        read_only_fields = fields


class WebhookDeliverySerializer(serializers.ModelSerializer[Attempt]):
    """One attempt to deliver a message."""

    webhook_id = serializers.UUIDField(source="message_id", read_only=True)
    type = serializers.ChoiceField(
        [*EventType.choices, (PING, _("a test"))], source="message.type", read_only=True
    )
    delivered = serializers.SerializerMethodField()

    class Meta:
        model = Attempt
        fields = [
            "id",
            "webhook_id",
            "type",
            "number",
            "at",
            "delivered",
            "status_code",
            "error",
            "duration_ms",
        ]
        read_only_fields = fields

    def get_delivered(self, attempt: Any) -> bool:
        return not attempt.error
