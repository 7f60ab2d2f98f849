"""Models of inventory: products, counters, reservations and the ledger of movements."""

from __future__ import annotations

from typing import Any, ClassVar
from uuid import UUID

from django.contrib import admin
from django.db import models
from django.db.models import F, Q
from django.utils.translation import get_language, gettext, pgettext_lazy
from django.utils.translation import gettext_lazy as _

from outbox.guards.locks import mark_locked, saved_under_lock
from shared.money import Money


class Product(models.Model):
    """A product for sale and its price. Every app identifies it by its SKU."""

    sku = models.CharField(_("SKU"), primary_key=True, max_length=64)
    name = models.CharField(_("name"), max_length=200)
    name_ja = models.CharField(
        _("name in Japanese"), max_length=200, blank=True, default="", db_default=""
    )
    price = models.PositiveBigIntegerField(_("price"), help_text=_("In minor units."))
    currency = models.CharField(_("currency"), max_length=3)
    on_sale = models.BooleanField(_("on sale"), default=True)

    class Meta:
        verbose_name = _("product")
        verbose_name_plural = _("products")
        ordering = ["sku"]

    def __str__(self) -> str:
        return f"{self.sku} {self.local_name}"

    def name_in(self, language: str) -> str:
        """Return the name in a language such as "ja"; the plain name if it has none in it."""
        return (self.name_ja if language == "ja" else "") or self.name

    @property
    @admin.display(description=_("name"), ordering="name")
    def local_name(self) -> str:
        """The name in the language of the current request or thread."""
        return self.name_in(get_language() or "")

    @property
    @admin.display(description=_("unit price"))
    def unit_price(self) -> Money:
        return Money(amount=self.price, currency=self.currency)


class StockQuerySet(models.QuerySet["Stock"]):
    """Conditional updates: each checks and updates in one statement, and returns whether it did."""

    def shift(self, sku: str, *, on_hand: int = 0, reserved: int = 0) -> bool:
        return bool(
            self.filter(
                pk=sku,
                reserved__gte=-reserved,
                on_hand__gte=F("reserved") + (reserved - on_hand),
            ).update(on_hand=F("on_hand") + on_hand, reserved=F("reserved") + reserved)
        )


class Stock(models.Model):
    """The counters of one product."""

    product = models.OneToOneField(
        Product, models.PROTECT, primary_key=True, db_column="sku", verbose_name=_("product")
    )
    on_hand = models.BigIntegerField(_("on hand"), default=0)
    reserved = models.BigIntegerField(_("reserved"), default=0)

    objects = StockQuerySet.as_manager()

    class Meta:
        verbose_name = _("stock")
        verbose_name_plural = _("stock")
        constraints = [
            models.CheckConstraint(
                condition=Q(reserved__gte=0), name="stock_reserved_not_negative"
            ),
            models.CheckConstraint(
                condition=Q(reserved__lte=F("on_hand")), name="stock_reserved_is_on_hand"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.product_id}: {self.available}"

    @property
    @admin.display(description=_("available"))
    def available(self) -> int:
        return self.on_hand - self.reserved


class ReservationQuerySet(models.QuerySet["Reservation"]):
    def locked(self, order_id: UUID) -> Reservation:
        """Return the order's reservation, locked. Create one (asked) if there is none yet."""
        self.bulk_create([Reservation(order_id=order_id)], ignore_conflicts=True)
        return mark_locked(self.select_for_update().get(pk=order_id))


@saved_under_lock
class Reservation(models.Model):
    """The reservation of one order. Each order has one row, whichever event arrives first."""

    class Status(models.TextChoices):
        ASKED = "asked", _("asked")  # visible only inside the transaction that decides
        RESERVED = "reserved", _("reserved")
        REFUSED = "refused", _("refused")
        RELEASED = "released", _("released")
        ISSUED = "issued", _("issued")
        FORESTALLED = "forestalled", _("released before it was reserved")

    TRANSITIONS: ClassVar[dict[str, set[str]]] = {
        Status.ASKED: {Status.RESERVED, Status.REFUSED, Status.FORESTALLED},
        Status.RESERVED: {Status.RELEASED, Status.ISSUED},
    }

    class InvalidTransition(Exception):
        """The reservation cannot move from its status to that one."""

    order_id = models.UUIDField(_("order"), primary_key=True)
    status = models.CharField(
        _("status"), max_length=16, choices=Status.choices, default=Status.ASKED
    )
    asked_at = models.DateTimeField(_("requested at"), auto_now_add=True)
    changed_at = models.DateTimeField(_("changed at"), auto_now=True)

    objects = ReservationQuerySet.as_manager()

    class Meta:
        verbose_name = _("reservation")
        verbose_name_plural = _("reservations")

    def __str__(self) -> str:
        return f"{self.order_id}: {self.get_status_display()}"

    def move_to(self, status: Status) -> None:
        if status not in self.TRANSITIONS.get(self.status, set()):
            raise self.InvalidTransition(
                f"The stock of order {self.order_id} cannot change from {self.status} to {status}."
            )
        self.status = status
        self.save(update_fields=["status", "changed_at"])


class ReservationLine(models.Model):
    reservation = models.ForeignKey(
        Reservation, models.CASCADE, related_name="lines", verbose_name=_("reservation")
    )
    product = models.ForeignKey(
        Product, models.PROTECT, related_name="+", db_column="sku", verbose_name=_("product")
    )
    quantity = models.PositiveIntegerField(_("quantity"))
    returned = models.PositiveIntegerField(
        _("returned"),
        default=0,
        help_text=_("Units that were returned to stock after a refund."),
    )

    class Meta:
        verbose_name = _("line")
        verbose_name_plural = _("lines")
        ordering = ["product"]
        constraints = [
            models.UniqueConstraint(
                fields=["reservation", "product"], name="reservation_line_once_per_product"
            ),
            models.CheckConstraint(
                condition=Q(returned__lte=F("quantity")), name="reservation_line_returned_at_most"
            ),
        ]

    def __str__(self) -> str:
        return gettext("%(quantity)s of %(sku)s") % {
            "quantity": self.quantity,
            "sku": self.product_id,
        }


class StockMovement(models.Model):
    """One change of the counters and its cause. A product's counters are the sums of its rows."""

    class Kind(models.TextChoices):
        RECEIVED = "received", pgettext_lazy("stock", "received")
        RESERVED = "reserved", _("reserved")
        RELEASED = "released", _("released")
        ISSUED = "issued", _("issued")
        RETURNED = "returned", _("returned")

    class AppendOnly(Exception):
        """A stock movement is never changed or deleted: write another one that corrects it."""

    product = models.ForeignKey(
        Product,
        models.PROTECT,
        related_name="movements",
        db_column="sku",
        verbose_name=_("product"),
    )
    kind = models.CharField(_("kind"), max_length=16, choices=Kind.choices)
    on_hand = models.BigIntegerField(_("on hand"), default=0)
    reserved = models.BigIntegerField(_("reserved"), default=0)
    reference = models.CharField(
        _("reference"),
        max_length=100,
        help_text=_("The order, the refund, or the delivery note."),
    )
    moved_at = models.DateTimeField(_("changed at"), auto_now_add=True)

    class Meta:
        verbose_name = _("stock movement")
        verbose_name_plural = _("stock movements")
        ordering = ["id"]
        constraints = [
            # The same cause moves the same product once, even if the code above does not check.
            models.UniqueConstraint(
                fields=["product", "kind", "reference"], name="stock_movement_once_per_cause"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.product_id}: {self.get_kind_display()} {self.reference}"

    def save(self, *args: Any, **kwargs: Any) -> None:
        if not self._state.adding:
            raise self.AppendOnly(self.AppendOnly.__doc__)
        super().save(*args, **kwargs)

    def delete(self, *_: Any, **__: Any) -> tuple[int, dict[str, int]]:
        raise self.AppendOnly(self.AppendOnly.__doc__)
