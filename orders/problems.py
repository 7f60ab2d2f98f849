"""What the API of orders refuses, each with a code that stays."""

from __future__ import annotations

from django.utils.translation import gettext_lazy as _
from rest_framework.exceptions import APIException


class OrderNotShippable(APIException):
    """The order is not ready to ship, or was cancelled."""

    status_code = 409
    default_code = "order_not_shippable"
    default_detail = _("Only an order that is ready to ship can be shipped.")
