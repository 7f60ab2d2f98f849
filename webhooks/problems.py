"""What the API of webhooks refuses, each with a code that stays."""

from __future__ import annotations

from django.utils.translation import gettext_lazy as _

from api import Conflict


class TooManyWebhooks(Conflict):
    """The user has as many webhooks as one may have."""

    default_code = "too_many_webhooks"
    default_detail = _("You have as many webhooks as one may have.")


class WebhookDisabled(Conflict):
    """A disabled webhook is sent nothing."""

    default_code = "webhook_disabled"
    default_detail = _("The webhook is disabled, so nothing is sent to it.")


class WebhookHeld(Conflict):
    """Staff disabled it."""

    default_code = "webhook_held"
    default_detail = _("The webhook was disabled by our staff; ask them to enable it.")
