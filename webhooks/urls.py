"""Included under /api/."""

from __future__ import annotations

from django.urls import path

from webhooks import views

app_name = "webhooks"

urlpatterns = [
    path("webhooks/", views.WebhookList.as_view(), name="webhooks"),
    path("webhooks/<uuid:pk>/", views.WebhookDetail.as_view(), name="webhook"),
    path("webhooks/<uuid:pk>/deliveries/", views.WebhookDeliveries.as_view(), name="deliveries"),
    path("webhooks/<uuid:pk>/rotate-secret/", views.WebhookSecret.as_view(), name="secret"),
    path("webhooks/<uuid:pk>/test/", views.WebhookTest.as_view(), name="test"),
]
