"""Refusals of the orders API, each with a stable code."""

from __future__ import annotations

from django.utils.translation import gettext_lazy as _

from api import Conflict


class TotalChanged(Conflict):
    """The total of the order differs from the expected one."""

    default_code = "total_changed"
    default_detail = _("The total of the order differs from the expected total.")


class OrderNotShippable(Conflict):
    """The order is not ready to ship, or was cancelled."""

    default_code = "order_not_shippable"
    default_detail = _("Only an order that is ready to ship can be shipped.")


#: The detail for an order that is ready to ship.
NOTHING_TO_SHIP = _("All units of the order went back to stock. Cancel the order.")


class OrderNotCancellable(Conflict):
    """The order is shipped already."""

    default_code = "order_not_cancellable"
    default_detail = _("The order is shipped already, so it cannot be cancelled.")


class OrderNotRefundable(Conflict):
    """The order is not paid, or is cancelled."""

    default_code = "order_not_refundable"
    default_detail = _("Only an order that is paid and not cancelled can be refunded.")


class RefundTooLarge(Conflict):
    """The refund exceeds what earlier refunds have left."""

    default_code = "refund_too_large"
    default_detail = _("The refund exceeds the amount or the units that are left.")


class NothingToRefund(Conflict):
    """Nothing is left, a line is not of the order, or goods must return and none are named."""

    default_code = "nothing_to_refund"
    default_detail = _(
        "There is nothing to refund: no amount is left, a line is not in the order, or units are "
        "to return to stock and no lines are named."
    )
