"""Included under /api/."""

from __future__ import annotations

from django.urls import path

from orders import moves, views

app_name = "orders"

urlpatterns = [
    path("orders/", views.OrderList.as_view(), name="orders"),
    path("orders/<uuid:pk>/", views.OrderDetail.as_view(), name="order"),
    path("orders/<uuid:pk>/cancel/", moves.OrderCancellation.as_view(), name="cancellation"),
    path("orders/<uuid:pk>/refunds/", moves.OrderRefunds.as_view(), name="refunds"),
    path("orders/<uuid:pk>/ship/", moves.OrderShipping.as_view(), name="shipping"),
    path("orders/<uuid:pk>/timeline/", views.OrderTimeline.as_view(), name="timeline"),
]
