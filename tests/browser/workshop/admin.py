from __future__ import annotations

from django.contrib import admin

from outbox.admin import TimelineMixin
from tests.browser.workshop.models import Repair


@admin.register(Repair)
class RepairAdmin(TimelineMixin):
    list_display = [
        "reference",
        "item",
        "customer",
        "fault",
        "remedy",
        "address",
        "carrier",
        "received_at",
        "promised_at",
    ]
    list_filter = ["carrier", "received_at"]
    search_fields = ["reference"]
    # Django's form of a date and a time has findings of its own.
    readonly_fields = ["received_at", "promised_at"]
