"""Refusals of the webhooks API, each with a stable code."""

from __future__ import annotations

from django.utils.translation import gettext_lazy as _

from api import Conflict


class TooManyWebhooks(Conflict):
    """The user has the maximum number of webhooks."""

    default_code = "too_many_webhooks"
    default_detail = _("You have the maximum number of webhooks. Remove one first.")


class WebhookDisabled(Conflict):
    """A disabled webhook receives nothing."""

    default_code = "webhook_disabled"
    default_detail = _("The webhook is disabled, so no message is sent to it. Enable it first.")


class WebhookDisabledByStaff(Conflict):
    """Staff disabled the webhook."""

    default_code = "webhook_disabled_by_staff"
    default_detail = _(
        "Our staff disabled your webhook. You cannot enable or remove it, change its URL, or add "
        "another one with its host. Ask them to enable it."
    )
