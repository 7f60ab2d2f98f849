"""Admin of inventory: products are editable; stock, reservations and the ledger are read-only."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from django import forms
from django.contrib import admin
from django.core.exceptions import ValidationError
from django.db import models
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from inventory.models import Product, Reservation, ReservationLine, Stock, StockMovement
from shared.money import exponent
from shared.read_only_admin import ReadOnly, never


class ProductForm(forms.ModelForm):  # type: ignore[type-arg]  # generic in stubs only
    """The price in units of its currency, such as 12.80. The model stores minor units."""

    price = forms.DecimalField(label=_("price"), min_value=0, max_digits=18)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "price" not in self.fields:  # the user may not change the product
            return
        price: Any = self.fields["price"]
        self._places = exponent(self.instance.currency)
        price.help_text = _("In %s.") % self.instance.currency
        price.widget.attrs["step"] = str(Decimal(1).scaleb(-self._places))
        self.initial["price"] = Decimal(self.instance.price).scaleb(-self._places)

    def clean_price(self) -> int:
        """Return the price in minor units; refuse a part of one."""
        units = self.cleaned_data["price"].scaleb(self._places)
        if units != int(units):
            raise ValidationError(_("The currency has no smaller part than its minor unit."))
        if units < 1:  # no bank authorizes an order of nothing
            raise ValidationError(_("The price must be at least one minor unit."))
        return int(units)


@admin.register(Product)
class ProductAdmin(admin.ModelAdmin):  # type: ignore[type-arg]  # generic in stubs only
    list_display = ["sku", "local_name", "price_shown", "available", "on_sale"]
    list_filter = ["on_sale"]
    list_select_related = ["stock"]
    search_fields = ["sku", "name", "name_ja"]
    form = ProductForm
    readonly_fields = ["sku", "currency", "price_shown"]
    actions = None

    # services.add_product adds products, since each needs its counters too.
    has_add_permission = has_delete_permission = never

    @admin.display(description=_("price"), ordering="price")
    def price_shown(self, product: Product) -> str:
        return str(product.unit_price)

    def get_fields(self, request: HttpRequest, obj: Product | None = None) -> list[Any]:
        """Show the price as money to users who may not change it."""
        price = "price" if self.has_change_permission(request, obj) else "price_shown"
        return ["sku", "name", "name_ja", price, "currency", "on_sale"]

    @admin.display(description=_("available"))
    def available(self, product: Product) -> int:
        return product.stock.available


@admin.register(Stock)
class StockAdmin(ReadOnly, admin.ModelAdmin):  # type: ignore[type-arg]  # generic in stubs only
    list_display = ["product", "on_hand", "reserved", "available"]
    search_fields = ["product__sku", "product__name", "product__name_ja"]


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
