"""Included under /api/."""

from __future__ import annotations

from django.urls import path

from inventory import views

app_name = "inventory"

urlpatterns = [
    path("products/", views.ProductList.as_view(), name="products"),
]
