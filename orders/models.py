"""Models of orders: orders, their lines as sold, their history, and refund requests."""

from __future__ import annotations

import secrets
from typing import ClassVar
from uuid import UUID

from django.conf import settings
from django.contrib import admin
from django.db import models
from django.db.models import Q
from django.db.models.functions import Upper
from django.utils import timezone
from django.utils.translation import gettext, pgettext_lazy
from django.utils.translation import gettext_lazy as _

from orders import deadlines
from outbox.guards.locks import mark_locked, saved_under_lock
from outbox.ids import uuid7
from shared.money import Money

# Crockford's alphabet, without I, L, O and U: a reference can be read aloud without mistakes.
ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


def new_reference() -> str:
    """Return a short public name for an order, such as "7Q4M-K2XD-9TRA", with 60 random bits."""
    letters = "".join(secrets.choice(ALPHABET) for _ in range(12))
    return f"{letters[:4]}-{letters[4:8]}-{letters[8:]}"


class OrderQuerySet(models.QuerySet["Order"]):
    def locked(self, order_id: UUID) -> Order:
        """Return the order, locked until the transaction ends. Read, decide and emit after this."""
        return mark_locked(self.select_for_update().get(pk=order_id))


@saved_under_lock
class Order(models.Model):
    class Status(models.TextChoices):
        PLACED = "placed", _("placed")
        CONFIRMED = "confirmed", _("confirmed")
        READY_TO_SHIP = "ready_to_ship", _("ready to ship")
        SHIPPED = "shipped", _("shipped")
        RECEIVED = "received", _("received")
        CANCELLED = "cancelled", _("cancelled")

    class CancelReason(models.TextChoices):
        OUT_OF_STOCK = "out_of_stock", _("out of stock")
        PAYMENT_DECLINED = "payment_declined", _("payment declined")
        REQUESTED = "requested", pgettext_lazy("a reason", "requested")
        OVERDUE = "overdue", _("not completed in time")

    class Awaits(models.TextChoices):
        STOCK = "stock", _("stock")
        PAYMENT = "payment", _("authorization")
        CAPTURE = "capture", _("capture")
        SHIPPING = "shipping", _("shipping")

    TRANSITIONS: ClassVar[dict[str, set[str]]] = {
        "": {Status.PLACED},
        Status.PLACED: {Status.CONFIRMED, Status.CANCELLED},
        Status.CONFIRMED: {Status.READY_TO_SHIP, Status.CANCELLED},
        Status.READY_TO_SHIP: {Status.SHIPPED, Status.CANCELLED},
        Status.SHIPPED: {Status.RECEIVED},
    }

    class InvalidTransition(Exception):
        """The order cannot move from its status to that one."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    reference = models.CharField(
        _("reference"), max_length=14, unique=True, default=new_reference, editable=False
    )
    customer = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        models.PROTECT,
        related_name="orders",
        verbose_name=_("customer"),
    )
    email = models.EmailField(_("e-mail address"))
    language = models.CharField(_("language"), max_length=10)
    status = models.CharField(_("status"), max_length=16, choices=Status.choices, default="")
    total_amount = models.PositiveBigIntegerField(_("total"), help_text=_("In minor units."))
    currency = models.CharField(_("currency"), max_length=3)
    stock_reserved_at = models.DateTimeField(_("stock reserved at"), null=True, blank=True)
    payment_authorized_at = models.DateTimeField(_("payment authorized at"), null=True, blank=True)
    awaits = models.CharField(
        _("waits for"),
        max_length=16,
        choices=Awaits.choices,
        blank=True,
        default="",
    )
    deadline_at = models.DateTimeField(
        _("deadline"), null=True, blank=True, help_text=_("The end of the current wait.")
    )
    cancel_reason = models.CharField(
        _("reason for the cancellation"), max_length=32, choices=CancelReason.choices, blank=True
    )
    carrier = models.CharField(_("carrier"), max_length=100, blank=True)
    tracking_number = models.CharField(_("tracking number"), max_length=100, blank=True)
    # NULL: placed without a key, or by an earlier release. A customer has many such orders.
    placed_with = models.CharField(  # noqa: DJ001  "" would be unique
        _("digest of the idempotency key"), max_length=64, null=True, editable=False
    )
    placed_at = models.DateTimeField(_("placed at"), auto_now_add=True)
    changed_at = models.DateTimeField(_("changed at"), auto_now=True)

    objects = OrderQuerySet.as_manager()

    class Meta:
        verbose_name = _("order")
        verbose_name_plural = _("orders")
        ordering = ["-id"]  # UUIDv7: the latest first
        permissions = [
            ("ship_order", _("Can mark orders as shipped and received")),
            ("cancel_order", _("Can cancel orders")),
            ("refund_order", _("Can refund orders")),
        ]
        indexes = [
            models.Index(fields=["customer", "-id"], name="orders_of_customer"),
            models.Index(fields=["status", "-id"], name="orders_by_status"),
            models.Index(Upper("email"), name="orders_by_email_in_any_case"),
            # Finished orders are left out, so the cost of a sweep follows the orders under way.
            models.Index(
                fields=["deadline_at"],
                condition=Q(deadline_at__isnull=False),
                name="orders_by_deadline",
            ),
        ]
        constraints = [
            models.UniqueConstraint(
                fields=["customer", "placed_with"], name="order_placed_once_with_a_key"
            ),
            models.CheckConstraint(condition=~Q(status=""), name="order_has_a_status"),
            models.CheckConstraint(
                condition=(Q(status="cancelled") & ~Q(cancel_reason=""))
                | (~Q(status="cancelled") & Q(cancel_reason="")),
                name="order_cancelled_for_a_reason",
            ),
            models.CheckConstraint(
                condition=Q(deadline_at=None) | ~Q(awaits=""), name="order_deadline_of_something"
            ),
        ]

    def __str__(self) -> str:
        return self.reference

    @property
    @admin.display(description=_("total"))
    def total(self) -> Money:
        return Money(amount=self.total_amount, currency=self.currency)

    @property
    def is_cancelled_by_customer(self) -> bool:
        """Whether the customer, and not staff, requested the cancellation."""
        if self.cancel_reason != self.CancelReason.REQUESTED:
            return False
        moves = self.history.filter(to_status=self.Status.CANCELLED)
        return moves.filter(cause__endswith=f"user:{self.customer_id}").exists()

    @property
    def is_complete(self) -> bool:
        """Whether stock is reserved and the payment is authorized."""
        return bool(self.stock_reserved_at and self.payment_authorized_at)

    def move_to(self, status: Status, *, cause: str) -> None:
        """Save the order in its new status, with a history row that names the cause."""
        if status not in self.TRANSITIONS.get(self.status, set()):
            message = f"Order {self.id} cannot change from {self.status} to {status}."
            raise self.InvalidTransition(message)
        previous, self.status = self.status, status
        self.save_with_deadline()
        self.history.create(from_status=previous, to_status=status, cause=cause)

    def save_with_deadline(self) -> None:
        """Save the order. Restart its deadline if it now waits for something new."""
        awaits = self._awaited()
        if awaits != self.awaits:
            self.awaits = awaits
            self.restart_deadline()
        self.save()

    def restart_deadline(self) -> None:
        """Set the deadline to the full waiting time from now."""
        length = deadlines.length_of(self.awaits)
        self.deadline_at = timezone.now() + length if length else None

    @property
    def is_overdue(self) -> bool:
        """Whether the deadline has passed."""
        return self.deadline_at is not None and self.deadline_at <= timezone.now()

    def _awaited(self) -> str:
        if self.status == self.Status.PLACED:
            return self.Awaits.PAYMENT if self.stock_reserved_at else self.Awaits.STOCK
        later = {
            self.Status.CONFIRMED: self.Awaits.CAPTURE,
            self.Status.READY_TO_SHIP: self.Awaits.SHIPPING,
        }
        return later.get(self.Status(self.status), "")


class OrderLine(models.Model):
    """A product as it was sold. Later changes of its name or price do not change it."""

    order = models.ForeignKey(Order, models.CASCADE, related_name="lines", verbose_name=_("order"))
    sku = models.CharField(_("SKU"), max_length=64)
    name = models.CharField(_("name"), max_length=200)
    unit_amount = models.PositiveBigIntegerField(_("unit price"), help_text=_("In minor units."))
    currency = models.CharField(_("currency"), max_length=3)
    quantity = models.PositiveIntegerField(_("quantity"))

    class Meta:
        verbose_name = _("line")
        verbose_name_plural = _("lines")
        ordering = ["id"]
        constraints = [
            models.UniqueConstraint(fields=["order", "sku"], name="order_line_once_per_sku"),
            models.CheckConstraint(condition=Q(quantity__gte=1), name="order_line_has_a_quantity"),
        ]

    def __str__(self) -> str:
        return gettext("%(quantity)s of %(sku)s") % {"quantity": self.quantity, "sku": self.sku}

    @property
    @admin.display(description=_("unit price"))
    def unit_price(self) -> Money:
        return Money(amount=self.unit_amount, currency=self.currency)

    @property
    @admin.display(description=_("total"))
    def total(self) -> Money:
        return self.unit_price * self.quantity


class OrderHistory(models.Model):
    """One move of an order and its cause."""

    order = models.ForeignKey(
        Order, models.CASCADE, related_name="history", verbose_name=_("order")
    )
    from_status = models.CharField(
        _("from"), max_length=16, choices=Order.Status.choices, blank=True
    )
    to_status = models.CharField(_("to"), max_length=16, choices=Order.Status.choices)
    cause = models.CharField(_("cause"), max_length=200)
    moved_at = models.DateTimeField(_("changed at"), auto_now_add=True)

    class Meta:
        verbose_name = _("status change")
        verbose_name_plural = _("history")
        ordering = ["id"]

    def __str__(self) -> str:
        return f"{self.get_from_status_display()} → {self.get_to_status_display()}"


class RefundRequest(models.Model):
    """A refund that staff requested, for some lines or for an amount.

    The refund in `payments` has the same id; its status shows whether the bank has done it.
    """

    class Status(models.TextChoices):
        REQUESTED = "requested", _("requested")
        REFUNDED = "refunded", _("refunded")

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    order = models.ForeignKey(
        Order, models.PROTECT, related_name="refunds", verbose_name=_("order")
    )
    amount = models.PositiveBigIntegerField(_("amount"), help_text=_("In minor units."))
    return_stock = models.BooleanField(_("returns units to stock"))
    requested_by = models.CharField(_("requested by"), max_length=150)
    # NULL: requested in the admin, or by an earlier release.
    requested_with = models.CharField(  # noqa: DJ001  "" would be unique
        _("digest of the idempotency key"), max_length=64, null=True, editable=False
    )
    requested_at = models.DateTimeField(_("requested at"), auto_now_add=True)

    class Meta:
        verbose_name = _("refund")
        verbose_name_plural = _("refunds")
        ordering = ["id"]
        constraints = [
            models.UniqueConstraint(
                fields=["order", "requested_by", "requested_with"],
                name="refund_requested_once_with_a_key",
            ),
            models.CheckConstraint(condition=Q(amount__gte=1), name="refund_request_of_something"),
        ]

    def __str__(self) -> str:
        return self.total.format()

    @property
    @admin.display(description=_("total"))
    def total(self) -> Money:
        return Money(amount=self.amount, currency=self.order.currency)


class RefundLine(models.Model):
    """The refunded units of one line."""

    refund = models.ForeignKey(
        RefundRequest, models.CASCADE, related_name="lines", verbose_name=_("refund")
    )
    line = models.ForeignKey(
        OrderLine, models.PROTECT, related_name="refunds", verbose_name=_("line")
    )
    quantity = models.PositiveIntegerField(_("quantity"))

    class Meta:
        verbose_name = _("refunded line")
        verbose_name_plural = _("refunded lines")
        ordering = ["id"]
        constraints = [
            models.UniqueConstraint(fields=["refund", "line"], name="refund_line_once"),
            models.CheckConstraint(condition=Q(quantity__gte=1), name="refund_line_of_something"),
        ]

    def __str__(self) -> str:
        return gettext("%(quantity)s of %(sku)s") % {
            "quantity": self.quantity,
            "sku": self.line.sku,
        }
