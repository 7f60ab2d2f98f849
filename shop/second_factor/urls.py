"""The second factor's addresses, below the admin's."""

from __future__ import annotations

from django.urls import path

from . import views

app_name = "second_factor"
urlpatterns = [
    path("", views.account, name="account"),
    path("verify/", views.verify, name="verify"),
    path("enrol/", views.enrol, name="enrol"),
    path("recovery-codes/", views.renew_recovery_codes, name="recovery_codes"),
    path("remove/", views.remove, name="remove"),
]
