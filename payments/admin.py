"""Admin of payments: rows are read-only; only services change them."""

from __future__ import annotations

from django.contrib import admin
from django.db import models
from django.utils.translation import gettext_lazy as _

from payments.models import BankReport, Payment, PaymentHistory, Refund
from shared.money import Money
from shared.read_only_admin import ReadOnly


class HistoryInline(ReadOnly, admin.TabularInline):  # type: ignore[type-arg]  # generic in stubs only
    model: type[models.Model] = PaymentHistory
    fields = ["moved_at", "from_status", "to_status", "cause"]
    readonly_fields = ["moved_at"]


class RefundInline(ReadOnly, admin.TabularInline):  # type: ignore[type-arg]  # generic in stubs only
    model: type[models.Model] = Refund
    fields = ["id", "status", "total", "bank_id", "moved_at"]
    readonly_fields = ["id", "total", "moved_at"]


@admin.register(Payment)
class PaymentAdmin(ReadOnly, admin.ModelAdmin):  # type: ignore[type-arg]  # generic in stubs only
    list_display = [
        "order_id",
        "status",
        "total_shown",
        "declined_reason",
        "intended_at",
        "moved_at",
    ]
    list_filter = ["status", "declined_reason", "intended_at"]
    search_fields = [
        "order_id",
        "id",
        "authorization_id",
        "capture_id",
        "void_id",
        "refunds__id",
        "refunds__bank_id",
    ]
    search_help_text = _("Order, payment, or an id of the bank.")
    date_hierarchy = "intended_at"
    inlines = [HistoryInline, RefundInline]
    fieldsets = [
        (None, {"fields": ["order_id", "status", "total_shown", "payment_method"]}),
        (_("Bank"), {"fields": ["authorization_id", "declined_reason", "capture_id"]}),
        (_("Refund"), {"fields": ["cancelled_at", "void_id", "refund_shown"]}),
        (_("Times"), {"fields": ["intended_at", "moved_at"]}),
    ]

    @admin.display(description=_("amount"), ordering="amount")
    def total_shown(self, payment: Payment) -> str:
        return str(payment.total) if payment.amount else ""

    @admin.display(description=_("refund amount"))
    def refund_shown(self, payment: Payment) -> str:
        if not payment.refund_amount:
            return ""
        return str(Money(amount=payment.refund_amount, currency=payment.currency))


@admin.register(BankReport)
class BankReportAdmin(ReadOnly, admin.ModelAdmin):  # type: ignore[type-arg]  # generic in stubs only
    list_display = ["report_id", "kind", "reference", "received_at", "processed_at"]
    list_filter = ["kind", "received_at"]
    search_fields = ["report_id", "reference"]
    search_help_text = _("The bank's id, or an order.")
