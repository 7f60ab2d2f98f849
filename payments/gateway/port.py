"""The port: what the shop needs of a bank, whichever bank it is.

Amounts are `Money`: integers in minor units and an ISO 4217 currency.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

from money import Money


class GatewayUnavailable(Exception):
    """The request never reached the bank, or the bank turned it away: no money moved. Try again."""


class OutcomeUnknown(Exception):
    """The request was perhaps carried out; the answer is missing. Ask again under the same key."""


class GatewayRefused(Exception):
    """The bank understood the request and will not do it: no money moved, and a person must look.

    It is not a decline, which is an answer; it is a wrong API key, a key used for another request,
    or money that is not where our books say it is.

    Attributes:
        code: the bank's own word for the reason, such as "unexpected_state".
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code


class ReportRefused(Exception):
    """What claims to be the bank's report is not signed by it, is too old, or makes no sense."""


@dataclass(frozen=True, kw_only=True)
class Authorization:
    """The bank's answer to `authorize`.

    Attributes:
        authorization_id: the bank's id for it; a declined one has an id too.
        amount: what is held, or would have been.
        declined_reason: the bank's code, such as "insufficient_funds"; "" if authorized.
    """

    authorization_id: str
    amount: Money
    declined_reason: str = ""

    @property
    def is_declined(self) -> bool:
        """Whether the bank said no, and holds nothing."""
        return self.declined_reason != ""


@dataclass(frozen=True, kw_only=True)
class Capture:
    """The bank's answer to `capture`.

    Attributes:
        capture_id: the bank's id for it; "" if declined.
        amount: what was taken, or would have been.
        declined_reason: the bank's code, such as "expired_card"; "" if taken. A decline is final,
            and nothing is held for us any more.
    """

    capture_id: str
    authorization_id: str
    amount: Money
    declined_reason: str = ""

    @property
    def is_declined(self) -> bool:
        """Whether the bank said no, and took nothing."""
        return self.declined_reason != ""


@dataclass(frozen=True, kw_only=True)
class Void:
    """An authorization that was let go: nothing of it is held any more."""

    void_id: str
    authorization_id: str


@dataclass(frozen=True, kw_only=True)
class Refund:
    """Money that was given back.

    Attributes:
        key: the idempotency key under which we asked for it; "" if we never did.
    """

    refund_id: str
    capture_id: str
    amount: Money
    key: str = ""


@dataclass(frozen=True, kw_only=True)
class Found:
    """All that the bank has on its books for one authorization."""

    authorization: Authorization
    void: Void | None = None
    capture: Capture | None = None
    refunds: tuple[Refund, ...] = ()

    @property
    def answer_to_capture(self) -> Capture | None:
        """What `capture` answered, or None while it was not asked for."""
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
    """What the bank told unasked.

    Attributes:
        report_id: the bank's id for it; the same if it is told again.
        kind: the bank's word for what happened, such as "capture.succeeded".
        reference: our own name for the purchase; "" if it is about none.
        found: the bank's books for it at that time, as far as the report tells them.
        refunds: the refunds that it tells of.
    """

    report_id: str
    kind: str
    reference: str
    found: Found | None
    refunds: tuple[Refund, ...] = ()


class Gateway(Protocol):
    """A bank. Each method makes one request with a time-out and never repeats it.

    A method that moves money takes an `idempotency_key`: the same key with the same arguments
    moves it once, however often it is called, and gives the same answer, for `key_life`. Call it
    with no transaction open, after the intent is committed.

    All methods raise:
        GatewayUnavailable: certainly nothing was done.
        OutcomeUnknown: perhaps it was done; call again with the same key.
        GatewayRefused: certainly nothing was done, and calling again will not help.
    """

    @property
    def key_life(self) -> timedelta:
        """How long the bank remembers an idempotency key; after it, `find` before asking again."""

    @property
    def processing_time(self) -> timedelta:
        """How long the bank may work on a request; what `find` does not find by then never will be.

        Counted from when we last asked, and with what `find` itself may lag behind.
        """

    def authorize(
        self, *, reference: str, amount: Money, payment_method: str, idempotency_key: str
    ) -> Authorization:
        """Hold the amount on the payment method; a decline is an answer, not an exception.

        Args:
            reference: our own name for the purchase, by which `find` finds it.
            payment_method: the token of a card, never its number.
        """

    def capture(self, *, authorization_id: str, amount: Money, idempotency_key: str) -> Capture:
        """Take the amount out of what is held; a decline is an answer, not an exception."""

    def void(self, *, authorization_id: str, idempotency_key: str) -> Void:
        """Let go of all that is held. Refused once it is captured."""

    def refund(
        self, *, reference: str, capture_id: str, amount: Money, idempotency_key: str
    ) -> Refund:
        """Give the amount back out of what was taken.

        Args:
            reference: our own name for the purchase, as at `authorize`.
        """

    def find(self, *, reference: str) -> Found | None:
        """Return what the bank has under our reference, or None.

        Of several authorizations it is the newest that was not declined, else the newest. None is
        final once `processing_time` has passed since the last request.
        """

    def verify_report(self, *, body: bytes, headers: Mapping[str, str]) -> None:
        """Raise `ReportRefused` unless the bank signed the body within the last five minutes."""

    def read_report(self, *, body: bytes) -> Report:
        """Read a report that was verified; raise `ReportRefused` if it makes no sense."""
