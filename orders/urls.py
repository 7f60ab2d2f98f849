"""Included under /api/."""

from __future__ import annotations

from django.urls import path

from orders import action_views, views

app_name = "orders"

urlpatterns = [
    path("orders/", views.OrderList.as_view(), name="orders"),
    path("orders/<uuid:pk>/", views.OrderDetail.as_view(), name="order"),
    path("orders/<uuid:pk>/cancel/", action_views.OrderCancellation.as_view(), name="cancellation"),
    path("orders/<uuid:pk>/refunds/", action_views.OrderRefunds.as_view(), name="refunds"),
    path("orders/<uuid:pk>/ship/", action_views.OrderShipping.as_view(), name="shipping"),
    path("orders/<uuid:pk>/timeline/", views.OrderTimeline.as_view(), name="timeline"),
]
