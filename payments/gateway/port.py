"""The port: the operations and types that the shop needs of any bank.

Amounts are `Money`: integers in minor units and an ISO 4217 currency.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

from shared.money import Money


class GatewayUnavailable(Exception):
    """The request never reached the bank, or the bank turned it away: no money moved. Try again."""


class OutcomeUnknown(Exception):
    """The request may have been carried out; its answer is missing. Ask again with the same key."""


class RefundPending(Exception):
    """The bank has accepted a refund and may still fail to make it. Ask again with the same key.

    Attributes:
        retry_after: when to ask again. The bank may need days.
    """

    retry_after = timedelta(hours=1)


class GatewayRefused(Exception):
    """The bank refuses the request: no money moved, and a person must investigate.

    It is not a decline, which is an answer. Causes are a wrong API key, a key that was used for
    another request, or money whose state at the bank differs from our tables.

    Attributes:
        code: the bank's code for the reason, such as "unexpected_state".
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code


class ReportRefused(Exception):
    """A report is not signed by the bank, is too old, or cannot be read."""


@dataclass(frozen=True, kw_only=True)
class Authorization:
    """The bank's answer to `authorize`.

    Attributes:
        authorization_id: the bank's id; "" if it declined a payment method that it does not know.
        amount: the amount held, or requested if declined.
        declined_reason: the bank's code, such as "insufficient_funds"; "" if authorized.
    """

    authorization_id: str
    amount: Money
    declined_reason: str = ""

    @property
    def is_declined(self) -> bool:
        """Whether the bank declined, and holds nothing."""
        return self.declined_reason != ""


@dataclass(frozen=True, kw_only=True)
class Capture:
    """The bank's answer to `capture`.

    Attributes:
        capture_id: the bank's id; "" if declined.
        amount: the amount captured, or requested if declined.
        declined_reason: the bank's code, such as "expired_card"; "" if captured. A decline is
            final, and the bank holds nothing for us any more.
    """

    capture_id: str
    authorization_id: str
    amount: Money
    declined_reason: str = ""

    @property
    def is_declined(self) -> bool:
        """Whether the bank declined, and captured nothing."""
        return self.declined_reason != ""


@dataclass(frozen=True, kw_only=True)
class Void:
    """A voided authorization: the bank holds nothing of it any more."""

    void_id: str
    authorization_id: str


@dataclass(frozen=True, kw_only=True)
class Refund:
    """A refund that the bank made.

    Attributes:
        key: the idempotency key of our request; "" if we made none.
    """

    refund_id: str
    capture_id: str
    amount: Money
    key: str = ""


@dataclass(frozen=True, kw_only=True)
class BankRecord:
    """All data of the bank about one authorization.

    Attributes:
        refunds: the refunds that the bank made.
        pending: the keys of refunds that the bank has not made yet.
        failed: the keys of refunds that the bank could not make, one for each time.
    """

    authorization: Authorization
    void: Void | None = None
    capture: Capture | None = None
    refunds: tuple[Refund, ...] = ()
    pending: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()

    @property
    def answer_to_capture(self) -> Capture | None:
        """The bank's answer to `capture`; None if no capture was requested yet."""
        if not self.authorization.is_declined:
            return self.capture
        return Capture(
            capture_id="",
            authorization_id=self.authorization.authorization_id,
            amount=self.authorization.amount,
            declined_reason=self.authorization.declined_reason,
        )


@dataclass(frozen=True, kw_only=True)
class Report:
    """A report that the bank sent by itself.

    Attributes:
        report_id: the bank's id; the same if the report is sent again.
        kind: the bank's name for the event, such as "capture.succeeded".
        reference: our name for the purchase; "" if there is none.
        found: the bank's data about it at that time, as far as the report contains them.
        refunds: the refunds in the report that are made.
        refund_keys: the keys of all refunds in the report, in the order of the bank's refunds.
    """

    report_id: str
    kind: str
    reference: str
    found: BankRecord | None
    refunds: tuple[Refund, ...] = ()
    refund_keys: tuple[str, ...] = ()


class Gateway(Protocol):
    """A bank. Each method makes one request with a time-out and never repeats it.

    A method that moves money takes an `idempotency_key`. Within `key_life`, the same key with the
    same arguments moves the money once and gives the same answer. Call it with no transaction
    open, after the intent is committed.

    All methods raise:
        GatewayUnavailable: nothing was done.
        OutcomeUnknown: it may have been done; call again with the same key.
        GatewayRefused: nothing was done, and another call will not help.

    `refund` also raises:
        RefundPending: the bank has not made the refund yet.
    """

    @property
    def key_life(self) -> timedelta:
        """How long the bank remembers an idempotency key. With an older key, call `find` first."""

    @property
    def processing_time(self) -> timedelta:
        """How long the bank may work on a request; `find` returns its result by then, or never.

        Counted from our last request, and including the lag of `find`.
        """

    def authorize(
        self, *, reference: str, amount: Money, payment_method: str, idempotency_key: str
    ) -> Authorization:
        """Hold the amount on the payment method. A decline is an answer, not an exception.

        Args:
            reference: our name for the purchase; `find` takes it.
            payment_method: the token of a card, never its number.
        """

    def capture(self, *, authorization_id: str, amount: Money, idempotency_key: str) -> Capture:
        """Capture the amount from the held money. A decline is an answer, not an exception."""

    def void(self, *, authorization_id: str, idempotency_key: str) -> Void:
        """Release all held money. The bank refuses this after a capture."""

    def refund(
        self, *, reference: str, capture_id: str, amount: Money, idempotency_key: str
    ) -> Refund:
        """Refund the amount from the captured money.

        Args:
            reference: our name for the purchase, as at `authorize`.
        """

    def find(self, *, reference: str) -> BankRecord | None:
        """Return the bank's data about our reference, or None.

        Of several authorizations, return the newest that was not declined, else the newest. None is
        final once `processing_time` has passed since the last request.
        """

    def verify_report(self, *, body: bytes, headers: Mapping[str, str]) -> None:
        """Raise `ReportRefused` unless the bank signed the body within the last five minutes."""

    def read_report(self, *, body: bytes) -> Report:
        """Read a verified report; raise `ReportRefused` if it cannot be read."""
