"""The adapter for Stripe, through its official SDK: PaymentIntents that are captured later.

Imported only if the setting GATEWAY is "stripe"; `pip install 'shop[stripe]'` installs the SDK.

    ours                 Stripe's
    -------------------  --------------------------------------------------------------
    authorize            a PaymentIntent, capture_method "manual", confirmed at once
    authorization_id     the PaymentIntent's id
    capture, capture_id  its capture, and the charge that it leaves
    void                 its cancellation, which has no id of its own
    reference            metadata["reference"], found by search, which lags by up to a minute
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any, TypeVar

import stripe

from payments.gateway import signatures
from payments.gateway.currencies import exact_at_stripe
from payments.gateway.port import (
    Authorization,
    BankRecord,
    Capture,
    GatewayRefused,
    GatewayUnavailable,
    OutcomeUnknown,
    Refund,
    Report,
    Void,
)
from payments.gateway.stripe_answers import (
    HELD_OR_TAKEN,
    read_authorization,
    read_capture,
    read_record,
    read_refund,
    read_report,
    read_void,
)
from payments.gateway.stripe_http import HttpxClient
from payments.gateway.stripe_keys import is_live_key
from shared.money import Money

Json = dict[str, Any]
Result = TypeVar("Result")

LIVE = "https://api.stripe.com"
#: Codes for a total that no card can be charged with.
AMOUNT_REFUSED = ("amount_too_small", "amount_too_large")
#: In Stripe's errors about a payment method that was used without a Customer.
USED_BEFORE = "may not be used again"
#: In Stripe's errors about a payment method of the other mode, live or test.
OTHER_MODE = ("a similar object exists in", "livemode")
REFUSED = (
    stripe.AuthenticationError,
    stripe.IdempotencyError,
    stripe.InvalidRequestError,
    stripe.PermissionError,
)


class StripeGateway:
    """Stripe, or a server with the same API at `url`.

    Args:
        api_key: a secret key, preferably a restricted one for PaymentIntents and refunds.
        timeout: seconds to wait for the connection, and again for the answer.
        webhook_secrets: the endpoint's signing secrets; several while one is rolled.
    """

    key_life = timedelta(hours=24)
    processing_time = timedelta(minutes=10)

    def __init__(
        self, *, api_key: str, timeout: float, url: str = LIVE, webhook_secrets: Sequence[str] = ()
    ) -> None:
        self._webhook_secrets = webhook_secrets
        self._is_live = is_live_key(api_key)
        self._stripe = stripe.StripeClient(
            api_key,
            base_addresses={"api": url},
            max_network_retries=0,  # the outbox retries, with backoff, under the same key
            http_client=HttpxClient(timeout=timeout),
        ).v1

    def authorize(
        self, *, reference: str, amount: Money, payment_method: str, idempotency_key: str
    ) -> Authorization:
        """See `Gateway.authorize`."""
        if not exact_at_stripe(amount.currency):
            return _declined(amount, "currency_refused")
        wanted: Any = {
            "amount": amount.amount,
            "currency": amount.currency.lower(),
            "payment_method": payment_method,
            "payment_method_types": ["card"],
            "capture_method": "manual",
            "confirm": True,
            "error_on_requires_action": True,  # no customer is present to act
            "metadata": {"reference": reference},
        }
        create = self._stripe.payment_intents.create
        try:
            return _ask(lambda: create(wanted, _under(idempotency_key)), read_authorization)
        except GatewayRefused as refusal:
            reason = _declined_reason(refusal.__cause__, is_live=self._is_live)
            if not reason:
                raise
            return _declined(amount, reason)

    def capture(self, *, authorization_id: str, amount: Money, idempotency_key: str) -> Capture:
        """See `Gateway.capture`."""
        wanted: Any = {"amount_to_capture": amount.amount}
        capture = self._stripe.payment_intents.capture
        return _ask(
            lambda: capture(authorization_id, wanted, _under(idempotency_key)), read_capture
        )

    def void(self, *, authorization_id: str, idempotency_key: str) -> Void:
        """See `Gateway.void`."""
        cancel = self._stripe.payment_intents.cancel
        return _ask(lambda: cancel(authorization_id, {}, _under(idempotency_key)), read_void)

    def refund(
        self, *, reference: str, capture_id: str, amount: Money, idempotency_key: str
    ) -> Refund:
        """See `Gateway.refund`."""
        wanted: Any = {
            "charge": capture_id,
            "amount": amount.amount,
            "metadata": {"reference": reference, "key": idempotency_key},
        }
        create = self._stripe.refunds.create
        return _ask(lambda: create(wanted, _under(idempotency_key)), read_refund)

    def find(self, *, reference: str) -> BankRecord | None:
        """See `Gateway.find`."""
        quoted = reference.replace("\\", "\\\\").replace("'", "\\'")
        wanted: Any = {
            "query": f"metadata['reference']:'{quoted}'",
            "expand": ["data.latest_charge.refunds"],
            "limit": 100,
        }
        found = _ask(
            lambda: _with_all_pages(self._stripe.payment_intents.search(wanted)),
            lambda answer: [read_record(self._with_all_refunds(one)) for one in answer["data"]],
        )
        held = [one for one in found if not one.authorization.is_declined]
        return next(iter(held or found), None)

    def _with_all_refunds(self, intent: Json) -> Json:
        """Return a PaymentIntent with each refund: an expanded list has the latest ten only."""
        charge: Any = intent.get("latest_charge")
        refunds = (charge.get("refunds") or {}) if isinstance(charge, dict) else {}
        if not refunds.get("has_more"):
            return intent
        wanted: Any = {"charge": charge["id"], "limit": 100}
        whole: Json = _ask(
            lambda: _with_all_pages(self._stripe.refunds.list(wanted)), lambda answer: answer
        )
        return {**intent, "latest_charge": {**charge, "refunds": whole}}

    def verify_report(self, *, body: bytes, headers: Mapping[str, str]) -> None:
        """See `Gateway.verify_report`."""
        # Stripe's scheme is that of `signatures`. The SDK's own check accepts one secret only, and
        # accepts times in the future.
        header = headers.get("Stripe-Signature", "")
        signatures.verify(body, header, secrets=self._webhook_secrets, now=time.time())

    def read_report(self, *, body: bytes) -> Report:
        """See `Gateway.read_report`."""
        return read_report(body)


def _declined(amount: Money, reason: str) -> Authorization:
    return Authorization(authorization_id="", amount=amount, declined_reason=reason)


def _declined_reason(error: object, *, is_live: bool) -> str:
    """Return why Stripe refuses what the customer chose; "" if it refuses something else.

    Stripe gives no code for a payment method that was used before, so its text decides. A live
    payment method with a test key is not the customer's fault: the shop has the wrong key. Anybody
    can send a test payment method to a shop with a live key. A key of another account looks the
    same as a payment method that does not exist.
    """
    if not isinstance(error, stripe.InvalidRequestError):
        return ""
    if error.code in AMOUNT_REFUSED:
        return error.code
    text = str(error)
    if any(words in text for words in OTHER_MODE):
        return "payment_method_refused" if is_live else ""
    if error.param == "payment_method" and error.code == "resource_missing":
        return "unknown_payment_method"
    if error.param == "payment_method" or (not error.code and USED_BEFORE in text):
        return "payment_method_refused"
    return ""


def _with_all_pages(page: Any) -> Any:
    """Return the first page of a list or of a search with the objects of all its pages."""
    page["data"] = list(page.auto_paging_iter())
    return page


def _under(idempotency_key: str) -> Any:
    return {"idempotency_key": idempotency_key}


def _ask(call: Callable[[], Any], read: Callable[[Json], Result]) -> Result:
    """Call Stripe and read its answer. A decline is an answer, too."""
    try:
        answer = call().to_dict()
    except stripe.CardError as error:
        answer = _intent_of(error)
    except stripe.RateLimitError as error:
        raise GatewayUnavailable("Stripe answered 429: too many requests.") from error
    except REFUSED as error:
        raise GatewayRefused(error.code or "refused", str(error)) from error
    except (stripe.StripeError, ValueError) as error:
        raise OutcomeUnknown(f"Stripe gave no usable answer: {error}") from error
    try:
        return read(answer)
    except (ValueError, KeyError, TypeError) as error:
        raise OutcomeUnknown("Stripe's answer cannot be parsed.") from error


def _intent_of(error: stripe.CardError) -> Any:
    """Return the declined PaymentIntent; None if Stripe does not show one as declined."""
    body: Any = error.json_body
    intent = body["error"].get("payment_intent")
    return intent if intent and intent.get("status") not in HELD_OR_TAKEN else None
