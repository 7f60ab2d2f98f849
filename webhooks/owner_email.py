"""E-mail to the owner of a webhook that was disabled."""

from __future__ import annotations

import logging
from uuid import UUID

from django.conf import settings
from django.core.mail import EmailMessage
from django.utils import translation
from django.utils.translation import gettext as _

from shared.mail import is_sendable, printable, send_to_account, sender_domain
from webhooks.models import Endpoint

logger = logging.getLogger(__name__)


def announce_disabling(*, endpoint_id: UUID, event_id: UUID) -> None:
    """Send the e-mail, under the same Message-ID each time.

    Send none if the webhook was removed or enabled again, or if the owner's address is not on the
    internet. The last case is logged as a warning, as is a permanent refusal of the address.

    Raises:
        OSError: as `shared.mail.send_to_account`.
    """
    endpoint = Endpoint.objects.select_related("owner").filter(pk=endpoint_id).first()
    if endpoint is None or endpoint.enabled:
        return
    if not is_sendable(endpoint.owner.email):
        logger.warning(
            "The owner of the disabled endpoint %s gets no e-mail: the account "
            "user:%s has no e-mail address on the internet. Correct the address in "
            "the admin, and inform the owner.",
            endpoint.pk,
            endpoint.owner_id,
        )
        return
    with translation.override(settings.LANGUAGE_CODE):
        message = _email(endpoint, event_id)
    send_to_account(message, user_id=endpoint.owner_id)


def _email(endpoint: Endpoint, event_id: UUID) -> EmailMessage:
    facts = {
        "url": endpoint.url,
        "why": endpoint.get_disabled_because_display(),
        "error": printable(endpoint.disabled_note),
    }
    return EmailMessage(
        subject=_("Your webhook is disabled"),
        body=_(
            "We no longer send webhooks to\n\n    %(url)s\n\nbecause %(why)s "
            "(%(error)s).\n\nWhen it works again, enable it through the API. Events "
            "from the meantime are not sent again. You can read them in the API.\n"
        )
        % facts,
        to=[endpoint.owner.email],
        headers={
            "Message-ID": f"<{event_id}@{sender_domain()}>",
            "Auto-Submitted": "auto-generated",
        },
    )
