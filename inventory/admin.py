"""Admin of inventory: products are editable; stock, reservations and the ledger are read-only."""

from __future__ import annotations

from django.contrib import admin
from django.db import models
from django.utils.translation import gettext_lazy as _

from inventory.models import Product, Reservation, ReservationLine, Stock, StockMovement
from shared.read_only_admin import ReadOnly, never


@admin.register(Product)
class ProductAdmin(admin.ModelAdmin):  # type: ignore[type-arg]  # generic in stubs only
    list_display = ["sku", "name", "price_shown", "available", "on_sale"]
    list_filter = ["on_sale"]
    list_select_related = ["stock"]
    search_fields = ["sku", "name"]
    readonly_fields = ["sku", "currency"]
    actions = None

    # services.add_product adds products, since each needs its counters too.
    has_add_permission = has_delete_permission = never

    @admin.display(description=_("price"), ordering="price")
    def price_shown(self, product: Product) -> str:
        return product.unit_price.format()

    @admin.display(description=_("available"))
    def available(self, product: Product) -> int:
        return product.stock.available


@admin.register(Stock)
class StockAdmin(ReadOnly, admin.ModelAdmin):  # type: ignore[type-arg]  # generic in stubs only
    list_display = ["product", "on_hand", "reserved", "available"]
    search_fields = ["product__sku", "product__name"]


class LineInline(ReadOnly, admin.TabularInline):  # type: ignore[type-arg]  # generic in stubs only
    model: type[models.Model] = ReservationLine


@admin.register(Reservation)
class ReservationAdmin(ReadOnly, admin.ModelAdmin):  # type: ignore[type-arg]  # generic in stubs only
    list_display = ["order_id", "status", "asked_at", "changed_at"]
    list_filter = ["status"]
    search_fields = ["order_id"]
    inlines = [LineInline]


@admin.register(StockMovement)
class StockMovementAdmin(ReadOnly, admin.ModelAdmin):  # type: ignore[type-arg]  # generic in stubs only
    list_display = ["moved_at", "product", "kind", "on_hand", "reserved", "reference"]
    list_filter = ["kind"]
    search_fields = ["product__sku", "reference"]
