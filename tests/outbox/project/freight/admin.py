"""The admin of parcels, whose page shows the timeline."""

from __future__ import annotations

from django.contrib import admin

from outbox.admin import ConditionMixin

from .models import Parcel


@admin.register(Parcel)
class ParcelAdmin(ConditionMixin, admin.ModelAdmin):
    list_display = ["id", "status"]
