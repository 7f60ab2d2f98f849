"""What a customer does in the storefront: orders, a new password, and the e-mail address.

Orders are placed and cancelled through the API.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from django.contrib.auth.models import User
from django.db import transaction
from django.http import HttpRequest
from django.utils.crypto import salted_hmac
from django.utils.translation import get_language

from orders import queries as orders
from outbox import emit
from outbox.ids import uuid7
from shared.mail import mailbox_of
from shared.money import Money
from storefront import api_client, verification
from storefront.events import PasswordResetRequested, VerificationRequested

#: Code of the API for a request that was processed before, and whose answer is not stored any more.
ANSWER_GONE = "idempotency_answer_gone"
#: Codes of the API for a key that has placed an order already.
PLACED_BEFORE = {"idempotency_key_reused", ANSWER_GONE}
#: Seconds in which requests for the same address send one e-mail.
ONE_EMAIL_IN = 300
#: Accounts of an address to which one e-mail has links. Anybody may create accounts with it.
MOST_LINKS = 3


class PlacedBefore(Exception):
    """The key has placed an order before, with another card or another basket."""


class TotalChanged(Exception):
    """The total of the order is not the one that the page showed."""


def place_order(
    request: HttpRequest,
    *,
    key: str,
    lines: Mapping[str, int],
    card: str,
    email: str,
    expected_total: Money | None = None,
) -> UUID:
    """Place an order and return its id. A repetition with the same key returns the same id.

    Args:
        key: the idempotency key of the basket.
        lines: units by SKU.
        card: the bank's token of a payment method.
        expected_total: the total that the customer has seen. None: any total is accepted.

    Raises:
        PlacedBefore: the key was used for other values.
        TotalChanged: the order would have another total than the expected one.
        RefusedByApi: the API refused the order.
    """
    body: dict[str, Any] = {
        "payment_method": card,
        "lines": [{"sku": sku, "quantity": quantity} for sku, quantity in lines.items()],
        "email": email,
        "language": get_language() or "en",
    }
    if expected_total is not None:
        body["expected_total"] = expected_total.model_dump()
    try:
        answer = api_client.post(request, "orders:orders", key=key, body=body)
    except api_client.RefusedByApi as refusal:
        if refusal.code in PLACED_BEFORE:
            raise PlacedBefore(PlacedBefore.__doc__) from refusal
        if refusal.code == "total_changed":
            raise TotalChanged(TotalChanged.__doc__) from refusal
        raise
    return UUID(str(answer["id"]))


def cancel_order(request: HttpRequest, *, order_id: UUID) -> None:
    """Cancel an order of the user. A repetition changes nothing.

    Raises:
        RefusedByApi: the order is shipped, or is not the user's.
    """
    # One key for each order: a second click is the same request.
    key = f"cancel-{order_id}"
    try:
        api_client.post(request, "orders:cancellation", order_id, key=key, body={})
    except api_client.RefusedByApi as refusal:
        if refusal.code != ANSWER_GONE:  # it was cancelled before
            raise


@transaction.atomic
def request_new_password(*, address: str, user_ids: list[int], origin: str) -> None:
    """Request one e-mail with a link for each of these users; one in ONE_EMAIL_IN seconds.

    Without users the same is stored. So neither the answer nor its duration shows whether an
    account has the address.

    Args:
        address: of these users, in their spelling. Only a keyed hash of it is stored.
        user_ids: of at most MOST_LINKS users with the same address.
        origin: scheme and host of the site.
    """
    request_id = _request_id("storefront.request_new_password", address)
    event = PasswordResetRequested(
        request_id=request_id,
        user_ids=user_ids,
        language=get_language() or "en",
        origin=origin,
    )
    emit(event, dedupe_key=str(request_id))


@transaction.atomic
def request_verification(*, user: User, origin: str) -> None:
    """Request an e-mail with a link to the address of an account: one in ONE_EMAIL_IN seconds.

    A newer request of the account replaces those that are not answered yet. A request that is not
    stored, because its mailbox has one already, replaces none.
    Spellings of a mailbox that differ in case or in a `+tag` count as one address.

    Args:
        origin: scheme and host of the site.
    """
    request_id = _request_id("storefront.request_verification", mailbox_of(user.email))
    event = VerificationRequested(
        request_id=request_id,
        user_id=user.pk,
        language=get_language() or "en",
        origin=origin,
    )
    before = uuid7()
    if emit(event, dedupe_key=str(request_id)) > before:  # else it is the id of an earlier event
        verification.record_request(user, request_id)


@transaction.atomic
def change_address(*, user: User, address: str, origin: str) -> bool:
    """Change the e-mail address of an account. Return whether it has to be verified.

    Its verification is then requested.
    """
    user.email = address
    user.save(update_fields=["email"])
    if verification.is_verified(user):
        return False
    request_verification(user=user, origin=origin)
    return True


def verify_address(*, user: User) -> None:
    """Record that the e-mail address of an account is verified."""
    verification.record(user)


def forget_address(*, subject: str) -> None:
    """Delete the digest of the verified address of an account ("user:7")."""
    customer = orders.customer_of(subject)
    if customer is not None:
        verification.forget(customer)


def _request_id(purpose: str, address: str) -> UUID:
    """Return the same id for all requests for an address in ONE_EMAIL_IN seconds."""
    about = f"{address} {int(time.time() // ONE_EMAIL_IN)}"
    return UUID(bytes=salted_hmac(purpose, about, algorithm="sha256").digest()[:16])
