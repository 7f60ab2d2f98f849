"""Included under /api/."""

from __future__ import annotations

from django.urls import path

from payments import views

app_name = "payments"

urlpatterns = [
    path("payments/webhooks/bank/", views.BankWebhook.as_view(), name="bank_webhook"),
]
