from __future__ import annotations

from django.urls import path

from .views import PlaceOrder

urlpatterns = [path("api/orders/", PlaceOrder.as_view())]
