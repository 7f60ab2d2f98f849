"""Models of payments: one payment for each order, its refunds, and the history of both.

    from          to            because
    ------------  ------------  ---------------------------------------------------------------
    (new)         intended      the order was placed; committed before the bank is asked
    (new)         forestalled   the order was cancelled before that: the bank is never asked
    intended      authorized    the bank holds the money
    intended      declined      the bank declined
    intended      forestalled   the order was cancelled, and the bank never got the request
    authorized    capturing     the order was confirmed; committed before the bank is asked
    authorized    voiding       the order was cancelled; committed before the bank is asked
    capturing     captured      the bank captured the money
    capturing     declined      the bank declined after all, and holds nothing any more
    capturing     voiding       the order was cancelled, and the bank never got the request
    captured      refunding     the order was cancelled; committed before the bank is asked
    captured      refunded      requested refunds have returned all of it
    voiding       voided        the bank released the money
    refunding     refunded      the bank refunded the money

In intended, capturing, voiding and refunding the bank may have been asked, but its answer is not
stored yet: the money may have moved. To find out, ask again under the same key. So a cancellation
of an intended or capturing payment is stored in `cancelled_at`. The payment then goes through
authorized to voiding, or through captured to refunding. If the key is old, and the bank has no
record of the request, it goes to forestalled or voiding at once.

Captured money goes back by refunds. Each is a row with its own status and key: one for each
request, and one for a cancellation, of all that the others leave.
"""

from __future__ import annotations

from typing import ClassVar
from uuid import UUID

from django.contrib import admin
from django.db import models
from django.db.models import F, Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from outbox.guards.locks import mark_locked, saved_under_lock
from outbox.ids import uuid7
from shared.money import Money


class Status(models.TextChoices):
    INTENDED = "intended", _("intended")
    AUTHORIZED = "authorized", _("authorized")
    DECLINED = "declined", _("declined")
    CAPTURING = "capturing", _("being captured")
    CAPTURED = "captured", _("captured")
    VOIDING = "voiding", _("being voided")
    VOIDED = "voided", _("voided")
    REFUNDING = "refunding", _("being refunded")
    REFUNDED = "refunded", _("refunded")
    FORESTALLED = "forestalled", _("cancelled before the first request")


NEW = ""  # visible only inside the transaction that creates the row

MONEY_WAS_HELD = [
    Status.AUTHORIZED,
    Status.CAPTURING,
    Status.CAPTURED,
    Status.VOIDING,
    Status.VOIDED,
    Status.REFUNDING,
    Status.REFUNDED,
]
MONEY_IS_HELD = [Status.AUTHORIZED, Status.CAPTURING, Status.VOIDING]
MONEY_WAS_TAKEN = [Status.CAPTURED, Status.REFUNDING, Status.REFUNDED]


@saved_under_lock
class Payment(models.Model):
    """The payment of one order. Each order has one row, whichever event arrives first."""

    TRANSITIONS: ClassVar[dict[str, set[str]]] = {
        NEW: {Status.INTENDED, Status.FORESTALLED},
        Status.INTENDED: {Status.AUTHORIZED, Status.DECLINED, Status.FORESTALLED},
        Status.AUTHORIZED: {Status.CAPTURING, Status.VOIDING},
        Status.CAPTURING: {Status.CAPTURED, Status.DECLINED, Status.VOIDING},
        Status.CAPTURED: {Status.REFUNDING, Status.REFUNDED},
        Status.VOIDING: {Status.VOIDED},
        Status.REFUNDING: {Status.REFUNDED},
    }
    AWAIT_BANK: ClassVar[set[str]] = {
        Status.INTENDED,
        Status.CAPTURING,
        Status.VOIDING,
        Status.REFUNDING,
    }

    class InvalidTransition(Exception):
        """The payment cannot move from its status to that one."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    order_id = models.UUIDField(_("order"), unique=True)
    status = models.CharField(_("status"), max_length=16, choices=Status.choices, default=NEW)
    amount = models.PositiveBigIntegerField(
        _("amount"), null=True, help_text=_("In minor units. Empty if the bank got no request.")
    )
    currency = models.CharField(_("currency"), max_length=3, blank=True)
    payment_method = models.CharField(
        _("payment method"),
        max_length=200,
        blank=True,
        help_text=_("A token, never a card number."),
    )
    declined_reason = models.CharField(_("reason of the decline"), max_length=100, blank=True)
    authorization_id = models.CharField(_("authorization"), max_length=100, blank=True)
    capture_id = models.CharField(_("capture"), max_length=100, blank=True)
    void_id = models.CharField(_("void"), max_length=100, blank=True)
    refund_amount = models.PositiveBigIntegerField(
        _("refund amount"),
        default=0,
        help_text=_("The sum of all refunds, done or intended."),
    )
    intended_at = models.DateTimeField(_("intended at"), default=timezone.now)
    moved_at = models.DateTimeField(
        _("changed at"), default=timezone.now, help_text=_("The time of the last status change.")
    )
    cancelled_at = models.DateTimeField(
        _("cancelled at"),
        null=True,
        help_text=_("When payments processed the cancellation of the order."),
    )
    asked_at = models.DateTimeField(
        _("looked up at"),
        null=True,
        help_text=_("When the bank was last asked under a key that it may have deleted."),
    )

    class Meta:
        verbose_name = _("payment")
        verbose_name_plural = _("payments")
        ordering = ["-id"]  # UUIDv7: the latest first
        indexes = [models.Index(fields=["status", "moved_at"], name="payments_by_status")]
        constraints = [
            models.CheckConstraint(
                condition=Q(status__in=[NEW, *Status.values]), name="payment_status_is_known"
            ),
            models.CheckConstraint(
                condition=Q(status__in=[NEW, Status.FORESTALLED])
                | (Q(amount__gte=1) & ~Q(currency="") & ~Q(payment_method="")),
                name="payment_of_something",
            ),
            models.CheckConstraint(
                condition=Q(status=Status.DECLINED) ^ Q(declined_reason=""),
                name="payment_declined_for_a_reason",
            ),
            models.CheckConstraint(
                condition=~Q(status__in=MONEY_WAS_HELD) | ~Q(authorization_id=""),
                name="payment_held_under_an_id",
            ),
            models.CheckConstraint(
                condition=Q(status__in=MONEY_WAS_TAKEN) ^ Q(capture_id=""),
                name="payment_captured_under_an_id",
            ),
            models.CheckConstraint(
                condition=Q(status=Status.VOIDED) ^ Q(void_id=""),
                name="payment_voided_under_an_id",
            ),
            models.CheckConstraint(
                condition=Q(refund_amount=0)
                | (Q(status__in=MONEY_WAS_TAKEN) & Q(refund_amount__lte=F("amount"))),
                name="payment_refunds_what_was_captured",
            ),
            models.CheckConstraint(
                condition=~Q(status=Status.FORESTALLED) | Q(cancelled_at__isnull=False),
                name="payment_forestalled_by_a_cancellation",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.order_id}: {self.get_status_display()}"

    @staticmethod
    def locked(order_id: UUID) -> Payment:
        """Return the order's payment, locked until the transaction ends. Create one if needed.

        Read, decide and emit after this. With a new one, the caller must move it or roll back.
        """
        Payment.objects.bulk_create([Payment(order_id=order_id)], ignore_conflicts=True)
        return mark_locked(Payment.objects.select_for_update().get(order_id=order_id))

    @property
    @admin.display(description=_("total"))
    def total(self) -> Money:
        """The amount to pay. A payment that was cancelled before it was intended has none."""
        assert self.amount is not None, f"{self} was never to be paid"
        return Money(amount=self.amount, currency=self.currency)

    @property
    def left(self) -> Money:
        """The captured amount that no refund returns."""
        return self.total - Money(amount=self.refund_amount, currency=self.currency)

    @property
    def refund_of_cancellation(self) -> Refund | None:
        """The refund that a cancellation intends, if any."""
        return self.refunds.filter(pk=self.pk).first()

    @property
    def is_given_back(self) -> bool:
        """Whether the bank has refunded all that it captured."""
        done = self.refunds.filter(status=Refund.Status.REFUNDED)
        return sum(done.values_list("amount", flat=True)) == self.amount

    # One key for each operation. It derives from the row, which is committed before the request.

    @property
    def authorize_key(self) -> str:
        return f"{self.id}-authorize"

    @property
    def capture_key(self) -> str:
        return f"{self.id}-capture"

    @property
    def void_key(self) -> str:
        return f"{self.id}-void"

    def move_to(self, status: Status, *, cause: str, correlation_id: UUID | None = None) -> None:
        """Save the payment in its new status, with a history row that names the cause.

        Args:
            correlation_id: of the handler that asks the bank next.
        """
        if status not in self.TRANSITIONS.get(self.status, set()):
            message = (
                f"The payment of {self.order_id} cannot change from {self.status} to {status}."
            )
            raise self.InvalidTransition(message)
        previous, self.status, self.moved_at = self.status, status, timezone.now()
        self.save()
        self.history.create(
            from_status=previous, to_status=status, cause=cause, correlation_id=correlation_id
        )


class PaymentHistory(models.Model):
    """One move of a payment and its cause."""

    payment = models.ForeignKey(
        Payment, models.CASCADE, related_name="history", verbose_name=_("payment")
    )
    from_status = models.CharField(_("from"), max_length=16, choices=Status.choices, blank=True)
    to_status = models.CharField(_("to"), max_length=16, choices=Status.choices)
    cause = models.CharField(_("cause"), max_length=200)
    correlation_id = models.UUIDField(
        _("correlation id"),
        null=True,
        editable=False,
        help_text=_("Of the request to the bank that follows, if one does."),
    )
    moved_at = models.DateTimeField(_("changed at"), auto_now_add=True)

    class Meta:
        verbose_name = _("status change")
        verbose_name_plural = _("history")
        ordering = ["id"]

    def __str__(self) -> str:
        return f"{self.get_from_status_display()} → {self.get_to_status_display()}"


class Refund(models.Model):
    """A refund. Its id is the request's, or the payment's own for a cancellation."""

    class Status(models.TextChoices):
        INTENDED = "intended", _("intended")
        REFUNDED = "refunded", _("refunded")

    TRANSITIONS: ClassVar[dict[str, set[str]]] = {
        NEW: {Status.INTENDED},
        Status.INTENDED: {Status.REFUNDED},
    }

    class InvalidTransition(Exception):
        """The refund cannot move from its status to that one."""

    id = models.UUIDField(primary_key=True, editable=False)
    payment = models.ForeignKey(
        Payment, models.PROTECT, related_name="refunds", verbose_name=_("payment")
    )
    status = models.CharField(_("status"), max_length=16, choices=Status.choices, default=NEW)
    amount = models.PositiveBigIntegerField(_("amount"), help_text=_("In minor units."))
    bank_id = models.CharField(_("the bank's id"), max_length=100, blank=True)
    moved_at = models.DateTimeField(
        _("changed at"), default=timezone.now, help_text=_("The time of the last status change.")
    )

    class Meta:
        verbose_name = _("refund")
        verbose_name_plural = _("refunds")
        ordering = ["-id"]
        constraints = [
            models.CheckConstraint(condition=Q(amount__gte=1), name="refund_of_something"),
            models.CheckConstraint(
                condition=Q(status="refunded") ^ Q(bank_id=""), name="refund_done_under_an_id"
            ),
            # Two refunds of the same amount cannot both claim one refund of the bank.
            models.UniqueConstraint(
                fields=["bank_id"], condition=~Q(bank_id=""), name="refund_once_at_the_bank"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.total.format()}: {self.get_status_display()}"

    @property
    @admin.display(description=_("total"))
    def total(self) -> Money:
        """The amount to refund."""
        return Money(amount=self.amount, currency=self.payment.currency)

    @property
    def key(self) -> str:
        """The idempotency key for the bank."""
        return f"{self.id}-refund"

    def move_to(self, status: Status, *, cause: str, correlation_id: UUID | None = None) -> None:
        """Save the refund in its new status, with a history row that names the cause.

        Args:
            correlation_id: of the handler that asks the bank next.
        """
        if status not in self.TRANSITIONS.get(self.status, set()):
            message = f"Refund {self.id} cannot change from {self.status} to {status}."
            raise self.InvalidTransition(message)
        previous, self.status, self.moved_at = self.status, status, timezone.now()
        self.save()
        self.history.create(
            from_status=previous, to_status=status, cause=cause, correlation_id=correlation_id
        )


class RefundHistory(models.Model):
    """One move of a refund and its cause."""

    refund = models.ForeignKey(
        Refund, models.CASCADE, related_name="history", verbose_name=_("refund")
    )
    from_status = models.CharField(
        _("from"), max_length=16, choices=Refund.Status.choices, blank=True
    )
    to_status = models.CharField(_("to"), max_length=16, choices=Refund.Status.choices)
    cause = models.CharField(_("cause"), max_length=200)
    correlation_id = models.UUIDField(
        _("correlation id"),
        null=True,
        editable=False,
        help_text=_("Of the request to the bank that follows, if one does."),
    )
    moved_at = models.DateTimeField(_("changed at"), auto_now_add=True)

    class Meta:
        verbose_name = _("status change")
        verbose_name_plural = _("history")
        ordering = ["id"]

    def __str__(self) -> str:
        return f"{self.get_from_status_display()} → {self.get_to_status_display()}"


class BankReport(models.Model):
    """A report that the bank sent by itself. Its event has it processed.

    The body is kept as it was sent until it is processed: it may hold personal data.
    """

    report_id = models.CharField(_("the bank's id"), max_length=200, unique=True)
    kind = models.CharField(_("kind"), max_length=200)
    reference = models.CharField(_("reference"), max_length=200, blank=True)
    body = models.TextField(_("body"))
    received_at = models.DateTimeField(_("received at"), auto_now_add=True)
    processed_at = models.DateTimeField(_("processed at"), null=True)

    class Meta:
        verbose_name = _("bank report")
        verbose_name_plural = _("bank reports")
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"{self.kind} {self.report_id}"
