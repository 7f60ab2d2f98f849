"""The catalogue, the basket and the checkout."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from django.contrib import messages
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_safe

from inventory import queries as inventory
from shared.money import CurrencyMismatch, Money, add_up
from storefront import services
from storefront.api_client import RefusedByApi
from storefront.baskets import MOST_UNITS, basket_of
from storefront.error_pages import error_page, post_only
from storefront.forms import PRICE_CHANGED, BasketForm, CheckoutForm, lines_of, total_of

PRODUCTS_ON_A_PAGE = 24
#: Fewer units than this are shown as a number.
FEW = 10


@dataclass(frozen=True, kw_only=True)
class BasketLine:
    """A product of the basket, at its price of now.

    Attributes:
        available: units that could be reserved now. The order may still find fewer.
    """

    sku: str
    name: str
    quantity: int
    available: int
    unit_price: Money

    @property
    def total(self) -> Money:
        return self.unit_price * self.quantity

    @property
    def is_short(self) -> bool:
        return self.available < self.quantity


@require_safe
def catalogue(request: HttpRequest) -> HttpResponse:
    """Show the products on sale."""
    pages = Paginator(inventory.catalogue().order_by("name", "sku"), PRODUCTS_ON_A_PAGE)
    page = pages.get_page(request.GET.get("page"))
    return render(request, "storefront/catalogue.html", {"page": page, "few": FEW})


@require_safe
def basket(request: HttpRequest) -> HttpResponse:
    """Show the basket."""
    return render(request, "storefront/basket.html", _contents(request))


@post_only
def change_basket(request: HttpRequest) -> HttpResponse:
    """Add units of a product and return to the catalogue, or set them and show the basket."""
    form = BasketForm(request.POST)
    if not form.is_valid():
        messages.error(request, _("The number of units must be from 0 to 99."))
        return redirect("storefront:basket")
    sku, quantity = form.cleaned_data["sku"], form.cleaned_data["quantity"]
    name = _name_of(sku)
    if not name:
        messages.error(request, _("This product is not on sale any more."))
        quantity = 0
    basket, adds = basket_of(request), form.cleaned_data["adds"] and name
    unfit = basket.add(sku, quantity) if adds else basket.replace(sku, quantity)
    if unfit:
        messages.error(request, _why_unfit(sku in basket.lines, name))
    elif adds:
        messages.success(request, _("%(product)s is in your basket.") % {"product": name})
    return redirect("storefront:catalogue" if adds else "storefront:basket")


def _why_unfit(is_in_basket: bool, name: str) -> str:
    if is_in_basket:
        text = _(
            "%(product)s: an order may have at most %(most)d units. Your basket now has that many."
        )
        return text % {"most": MOST_UNITS, "product": name}
    text = _("Your basket is full. %(product)s was not added. Place this order first.")
    return text % {"product": name}


@require_http_methods(["GET", "HEAD", "POST"])
def checkout(request: HttpRequest) -> HttpResponse:
    """Show the checkout, or place the order. An unknown visitor signs in first, with the basket."""
    if not request.user.is_authenticated:
        return _sign_in_first(request)
    if request.method == "POST":
        return _place(request)
    contents = _contents(request)
    if not contents["lines"]:
        return redirect("storefront:basket")
    form = CheckoutForm(initial={"email": getattr(request.user, "email", "")})
    return render(request, "storefront/checkout.html", {**contents, "form": form})


def _sign_in_first(request: HttpRequest) -> HttpResponse:
    """Send the visitor to the sign-in. A form of an ended session refills an empty basket."""
    basket = basket_of(request)
    if not basket.lines and not basket.has_placed(request.POST.get("key", "")):
        basket.fill(lines_of(request.POST.getlist("line")))
    if request.method == "POST" or getattr(request, "session_has_ended", False):
        messages.info(request, _("Your session has ended. Sign in again. Your basket is kept."))
    query = urlencode({"next": reverse("storefront:checkout")})
    return redirect(f"{reverse('storefront:sign_in')}?{query}")


def _place(request: HttpRequest) -> HttpResponse:
    form, lines = CheckoutForm(request.POST), lines_of(request.POST.getlist("line"))
    if not lines:
        return redirect("storefront:basket")
    if not form.is_valid():
        return _show_again(request, form)
    key = str(form.cleaned_data["key"])
    try:
        order_id = services.place_order(
            request,
            key=key,
            lines=lines,
            card=form.cleaned_data["card"],
            email=form.cleaned_data["email"],
            expected_total=total_of(form.cleaned_data["expected_total"]),
        )
    except services.PlacedBefore:
        basket_of(request).take(lines, key=key)  # the browser may have missed the first answer
        messages.info(request, _("You have placed this order before. This list shows it."))
        return redirect("storefront:orders")
    except services.TotalChanged:
        form.add_error("expected_total", PRICE_CHANGED)
        return _show_again(request, form)
    except RefusedByApi as refusal:
        if refusal.wait is not None:
            back = (reverse("storefront:checkout"), _("To the checkout"))
            return error_page(429, request=request, wait=refusal.wait, back=back)
        for sentence in refusal.sentences:
            form.add_error(None, sentence)
        return _show_again(request, form)
    basket_of(request).take(lines, key=key)
    return redirect("storefront:order", order_id)


def _show_again(request: HttpRequest, form: CheckoutForm) -> HttpResponse:
    """Show the checkout with its errors and the present basket."""
    contents = _contents(request)
    if not contents["lines"]:
        messages.error(request, _("Your basket is empty. Add the products again."))
        return redirect("storefront:basket")
    return render(request, "storefront/checkout.html", {**contents, "form": form}, status=422)


def _contents(request: HttpRequest) -> dict[str, Any]:
    """Return the basket's lines and total for a template. Remove products not on sale."""
    basket = basket_of(request)
    wanted = basket.lines
    known, available = inventory.price_list(wanted), inventory.available(wanted)
    if missing := wanted.keys() - known.keys():
        basket.fill({sku: units for sku, units in wanted.items() if sku not in missing})
        messages.warning(request, _("Some products are not on sale any more. They were removed."))
    lines = [
        BasketLine(
            sku=sku,
            name=known[sku].name,
            quantity=quantity,
            available=available.get(sku, 0),
            unit_price=known[sku].unit_price,
        )
        for sku, quantity in basket.lines.items()
    ]
    return {"basket": basket, "lines": lines, "total": _total(lines)}


def _total(lines: list[BasketLine]) -> Money | None:
    """Return the sum; None for an empty basket, or for prices in several currencies."""
    try:
        return add_up(line.total for line in lines) if lines else None
    except CurrencyMismatch:
        return None


def _name_of(sku: str) -> str:
    priced = inventory.price_list([sku]).get(sku)
    return priced.name if priced else ""
