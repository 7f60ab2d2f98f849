"""The subscriptions of the storefront."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from outbox import Receipt, subscribe
from shared.mail import LEASE
from storefront import password_email, services, verification_email
from storefront.verification import user_of_request

#: The queue of all e-mails.
SMTP = "notifications.smtp"


@subscribe("storefront.PasswordResetRequested", atomic=False, queue=SMTP, lease=LEASE)
def send_password_link(
    user_ids: list[int],
    language: str,
    origin: str,
    event_id: UUID,
    emitted_at: datetime,
    receipt: Receipt,
) -> None:
    if not password_email.is_too_late(emitted_at):
        password_email.send(user_ids, language=language, origin=origin, event_id=event_id)
    with receipt:
        pass  # only the receipt is stored


@subscribe("storefront.VerificationRequested", atomic=False, queue=SMTP, lease=LEASE)
def send_verification_link(
    request_id: UUID,
    user_id: int,
    language: str,
    origin: str,
    event_id: UUID,
    emitted_at: datetime,
    receipt: Receipt,
) -> None:
    user = user_of_request(user_id, request_id=request_id, requested_at=emitted_at)
    if user is not None and not verification_email.is_too_late(emitted_at):
        verification_email.send(user, language=language, origin=origin, event_id=event_id)
    with receipt:
        pass  # only the receipt is stored


# In the queue of the orders' own handler of this event: a queue for it alone needs a worker.
@subscribe("outbox.SubjectRedacted", queue="orders")
def forget_address(subject: str) -> None:
    services.forget_address(subject=subject)
