"""A customer's own orders. Orders of others do not exist for these views, also not for staff."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import pgettext
from django.views.decorators.http import require_safe

from orders import queries as orders
from storefront import services
from storefront.api_client import RefusedByApi
from storefront.baskets import basket_of
from storefront.error_pages import error_page, post_only
from storefront.progress import progress_of

SIGN_IN = "storefront:sign_in"
ORDERS_ON_A_PAGE = 20


@require_safe
@login_required(login_url=SIGN_IN)
def order_list(request: HttpRequest) -> HttpResponse:
    """Show the customer's orders, the newest first."""
    before = _as_id(request.GET.get("before", ""))
    found = orders.newest_of(request.user, before=before, most=ORDERS_ON_A_PAGE + 1)
    shown = found[:ORDERS_ON_A_PAGE]
    older = shown[-1].pk if len(found) > len(shown) else None
    context = {"orders": shown, "older": older, "is_first": before is None}
    return render(request, "storefront/orders.html", context)


@require_safe
@login_required(login_url=SIGN_IN)
def order(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Show one order, which follows its status."""
    return render(request, "storefront/order.html", _context(request, pk))


@require_safe
def order_status(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Return what changes of the page: the next request, and the status if it is a new one.

    htmx swaps nothing on a 204. Screen readers announce the status, so it is not repeated.
    """
    if not request.user.is_authenticated:
        if "HX-Request" in request.headers:
            return HttpResponse(headers={"HX-Refresh": "true"})
        return _sign_in_first(request, pk)
    context, seen = _context(request, pk), request.GET.get("seen", "")
    if seen == context["progress"].version:
        return HttpResponse(status=204)
    context["is_new"] = seen.partition("-")[0] != context["progress"].shown
    return render(request, "storefront/order_change.html", context)


@post_only
def cancel(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Cancel an order, and show its page."""
    if not request.user.is_authenticated:
        return _sign_in_first(request, pk)
    _own(request, pk)
    try:
        services.cancel_order(request, order_id=pk)
    except RefusedByApi as refusal:
        if refusal.wait is not None:
            back = (reverse("storefront:order", args=[pk]), _("To the order"))
            return error_page(429, request=request, wait=refusal.wait, back=back)
        messages.error(request, refusal.detail)
    return redirect("storefront:order", pk)


@post_only
def order_again(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Add the products of an order to the basket."""
    if not request.user.is_authenticated:
        return _sign_in_first(request, pk)
    basket, lines = basket_of(request), _own(request, pk).lines
    more = {line.sku: basket.lines.get(line.sku, 0) + line.quantity for line in lines}
    if unfit := basket.fill({**basket.lines, **more}):
        names = pgettext("between parts of a sentence", ", ").join(
            line.name for line in lines if line.sku in unfit
        )
        text = _("Not all units fit into your basket: %(products)s.")
        messages.warning(request, text % {"products": names})
    else:
        messages.info(request, _("The products of the order are in your basket."))
    return redirect("storefront:basket")


def _sign_in_first(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Send the customer to the sign-in, and from there to the order: a POST cannot be repeated."""
    query = urlencode({"next": reverse("storefront:order", args=[pk])})
    return redirect(f"{reverse(SIGN_IN)}?{query}")


def _as_id(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None


def _own(request: HttpRequest, pk: UUID) -> orders.OrderSummary:
    """Return an order of the signed-in customer; raise Http404 for any other."""
    if not orders.orders_of(request.user).filter(pk=pk).exists():
        raise Http404
    return orders.summary(pk)


def _context(request: HttpRequest, pk: UUID) -> dict[str, Any]:
    order = _own(request, pk)
    return {"order": order, "progress": progress_of(order)}
