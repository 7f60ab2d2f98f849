"""Included under /api/."""

from __future__ import annotations

from django.urls import path

from orders import views

app_name = "orders"

urlpatterns = [
    path("orders/", views.OrderList.as_view(), name="orders"),
    path("orders/<uuid:pk>/", views.OrderDetail.as_view(), name="order"),
    path("orders/<uuid:pk>/ship/", views.OrderShipping.as_view(), name="shipping"),
    path("orders/<uuid:pk>/timeline/", views.OrderTimeline.as_view(), name="timeline"),
]
