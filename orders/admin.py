"""Admin of orders: rows are read-only, and actions call the services."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.helpers import ActionForm
from django.core.exceptions import PermissionDenied
from django.db import models
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import URLPattern, path
from django.utils import formats, timezone
from django.utils.decorators import method_decorator
from django.utils.html import format_html
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext
from django.views.decorators.http import conditional_page
from rest_framework.exceptions import ValidationError

from api import StrictCharField
from orders import services
from orders.models import Order, OrderHistory, OrderLine, RefundRequest
from orders.problems import NOTHING_TO_SHIP, NothingToRefund, RefundTooLarge
from orders.processes import Step, steps
from outbox.admin import ConditionMixin, actor
from shared.read_only_admin import ReadOnly

REFUSALS = (Order.InvalidTransition, services.NotCancellable, services.NotRefundable)
# Refusals whose reason is not the order's status.
EXPLAINED: dict[type[Exception], Any] = {
    services.RefundTooLarge: RefundTooLarge.default_detail,
    services.NothingToRefund: NothingToRefund.default_detail,
    services.NothingToShip: NOTHING_TO_SHIP,
}


class LineInline(ReadOnly, admin.TabularInline):  # type: ignore[type-arg]  # generic in stubs only
    model: type[models.Model] = OrderLine
    fields = ["sku", "name", "quantity", "unit_price", "total"]
    readonly_fields = ["unit_price", "total"]


class HistoryInline(ReadOnly, admin.TabularInline):  # type: ignore[type-arg]  # generic in stubs only
    model: type[models.Model] = OrderHistory
    fields = ["moved_at", "from_status", "to_status", "cause_shown"]
    readonly_fields = ["moved_at", "cause_shown"]

    @admin.display(description=_("cause"))
    def cause_shown(self, move: OrderHistory) -> str:
        action, by, who = move.cause.partition(" by ")
        return format_html("{}{}{}", action, by, actor(who)) if who else action


class RefundInline(ReadOnly, admin.TabularInline):  # type: ignore[type-arg]  # generic in stubs only
    model: type[models.Model] = RefundRequest
    fields = ["requested_at", "total", "return_stock", "requested_by_shown"]
    readonly_fields = ["requested_at", "total", "requested_by_shown"]

    @admin.display(description=_("requested by"))
    def requested_by_shown(self, refund: RefundRequest) -> str:
        return actor(refund.requested_by)


class MoveForm(ActionForm):
    carrier = forms.CharField(label=_("Carrier"), max_length=100, required=False)
    tracking_number = forms.CharField(label=_("Tracking number"), max_length=100, required=False)
    return_stock = forms.BooleanField(label=_("Return units to stock"), required=False)


@admin.register(Order)
class OrderAdmin(ReadOnly, ConditionMixin):
    list_display = [
        "reference",
        "status",
        "customer",
        "total",
        "placed_at",
        "awaits",
        "deadline_at",
    ]
    list_filter = ["status", "awaits", "cancel_reason", "placed_at"]
    list_select_related = ["customer"]
    search_fields = ["reference", "id", "email"]
    date_hierarchy = "placed_at"
    inlines = [LineInline, RefundInline, HistoryInline]
    action_form = MoveForm
    actions = ["mark_as_shipped", "mark_as_received", "cancel", "refund_what_is_left"]
    fieldsets = [
        (None, {"fields": ["reference", "status", "total", "customer", "email", "language"]}),
        (
            _("Progress"),
            {
                "fields": [
                    "placed_at",
                    "changed_at",
                    "stock_reserved_at",
                    "payment_authorized_at",
                    "awaits",
                    "deadline_at",
                    "cancel_reason",
                ]
            },
        ),
        (_("Parcel"), {"fields": ["carrier", "tracking_number"]}),
    ]

    def overdue(self) -> Q:
        """Return the orders whose deadline has passed."""
        return Q(deadline_at__lte=timezone.now())

    def overdue_text(self, order: Order) -> str:
        text = _("The order waits for %(what)s, and its deadline passed at %(when)s.")
        when = formats.date_format(timezone.localtime(order.deadline_at), "DATETIME_FORMAT")
        return text % {"what": order.get_awaits_display(), "when": when}

    def unfinished(self) -> Q:
        """Return the orders that wait for something, such as a person who ships them."""
        return ~Q(awaits="")

    def get_urls(self) -> list[URLPattern]:
        """Add the pages of orders under way, before the pattern that accepts any text as an id."""
        view, name = self.admin_site.admin_view, "orders_order_processes"
        return [
            path("processes/", view(self.processes), name=name),
            path("processes/part/", view(self.processes_part), name=f"{name}_part"),
            *super().get_urls(),
        ]

    def processes(self, request: HttpRequest) -> HttpResponse:
        context = {
            **self.admin_site.each_context(request),
            "title": _("Orders under way"),
            "opts": self.opts,
            "media": self.media,
            **self._under_way(request),
        }
        return render(request, "admin/orders/order/processes.html", context)

    @method_decorator(conditional_page)
    def processes_part(self, request: HttpRequest) -> HttpResponse:
        return render(request, "orders/processes.html", self._under_way(request))

    def _under_way(self, request: HttpRequest) -> dict[str, Any]:
        found = self._steps(request)
        return {"steps": found, "is_empty": not any(step.number for step in found)}

    def _steps(self, request: HttpRequest) -> list[Step]:
        if not self.has_view_permission(request):
            raise PermissionDenied
        return steps()

    def has_ship_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("orders.ship_order")

    def has_cancel_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("orders.cancel_order")

    @admin.action(description=_("Mark as shipped"), permissions=["ship"])
    def mark_as_shipped(self, request: HttpRequest, orders: QuerySet[Order]) -> None:
        parcel = self._parcel(request)
        if parcel is not None:
            self._move_each(request, orders, partial(services.ship_order, **parcel))

    def _parcel(self, request: HttpRequest) -> dict[str, Any] | None:
        """Return carrier and tracking number, checked as in the API. Report an invalid one."""
        parcel: dict[str, Any] = {}
        field = StrictCharField(max_length=100, allow_blank=True)
        for name in ("carrier", "tracking_number"):
            try:
                parcel[name] = field.run_validation(request.POST.get(name, ""))
            except ValidationError as error:
                facts = {
                    "field": MoveForm.base_fields[name].label,
                    "why": " ".join(map(str, error.detail)),
                }
                text = _("No order is changed. %(field)s: %(why)s")
                self.message_user(request, text % facts, messages.ERROR)
                return None
        return parcel

    @admin.action(description=_("Mark as received"), permissions=["ship"])
    def mark_as_received(self, request: HttpRequest, orders: QuerySet[Order]) -> None:
        self._move_each(request, orders, services.receive_order)

    def has_refund_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("orders.refund_order")

    @admin.action(description=_("Refund the remaining amount"), permissions=["refund"])
    def refund_what_is_left(self, request: HttpRequest, orders: QuerySet[Order]) -> None:
        refund = partial(
            services.request_refund, return_stock=bool(request.POST.get("return_stock"))
        )
        self._move_each(request, orders, refund)

    @admin.action(description=_("Cancel"), permissions=["cancel"])
    def cancel(self, request: HttpRequest, orders: QuerySet[Order]) -> None:
        self._move_each(request, orders, services.cancel_order)

    def _move_each(
        self, request: HttpRequest, orders: QuerySet[Order], move: Callable[..., object]
    ) -> None:
        moved = 0
        for order in orders:
            try:
                move(order_id=order.id, by=f"user:{request.user.pk}")
            except REFUSALS as refusal:
                self._refuse(request, order, EXPLAINED.get(type(refusal)))
            else:
                moved += 1
        text = ngettext("%(count)d order changed.", "%(count)d orders changed.", moved)
        self.message_user(request, text % {"count": moved}, messages.SUCCESS)

    def _refuse(self, request: HttpRequest, order: Order, why: str | None) -> None:
        text = _("%(order)s is %(status)s, so this is not possible.")
        if why:
            text = _("%(order)s: %(why)s")
        facts = {"order": order, "status": order.get_status_display(), "why": why}
        self.message_user(request, text % facts, messages.ERROR)
