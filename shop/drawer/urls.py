"""The addresses of the drawer, under /development/."""

from __future__ import annotations

from django.urls import path

from shop.drawer import views

app_name = "drawer"

urlpatterns = [
    path("story/", views.story_part, name="story"),
    path("faults/<slug:name>/", views.fault, name="fault"),
]
