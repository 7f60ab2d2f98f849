"""In development, a button of the empty monitor that places a demo order."""

from __future__ import annotations

from django.contrib import messages
from django.contrib.admin.views.decorators import staff_member_required
from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils.translation import get_language
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST

from orders.services import NotForSale, WantedLine, place_order
from shop.up.credentials import CUSTOMERS
from shop.up.demo import PRODUCTS


@require_POST
@staff_member_required
def place_demo_order(request: HttpRequest) -> HttpResponse:
    """Place an order as a demo customer, and redirect to the page that shows its effects."""
    customer = User.objects.filter(username=CUSTOMERS[0]).first()
    try:
        if customer is None:
            raise NotForSale([PRODUCTS[0][0]])
        order = place_order(
            customer=customer,
            lines=[WantedLine(sku=PRODUCTS[0][0], quantity=1)],
            payment_method="tok_success",
            email=customer.email,
            language=get_language() or "en",
        )
    except NotForSale:
        messages.error(request, _("There is no demo data. Run `make up` to add it."))
        return redirect("admin:index")
    return redirect("admin:orders_order_change", order.pk)
