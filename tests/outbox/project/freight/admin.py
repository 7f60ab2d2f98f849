"""The admin of parcels, whose page shows the timeline."""

from __future__ import annotations

from django.contrib import admin

from outbox.admin import TimelineMixin

from .models import Parcel


@admin.register(Parcel)
class ParcelAdmin(TimelineMixin, admin.ModelAdmin):
    list_display = ["id", "status"]
