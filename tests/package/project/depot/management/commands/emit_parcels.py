"""Emit events of parcels, each in a transaction that also counts it in the emitters' book."""

from datetime import timedelta
from typing import Any

from depot import events
from depot.handlers import RELEASE
from depot.models import Parcel
from django.core.management.base import BaseCommand, CommandParser
from django.db import transaction
from django.db.models import F

from outbox import emit


class Command(BaseCommand):
    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("events")
        parser.add_argument("parcels", nargs="+")
        parser.add_argument("--times", type=int, default=1)
        parser.add_argument("--delay", type=float)

    def handle(self, *_args: object, **options: Any) -> None:
        delay = None if options["delay"] is None else timedelta(seconds=options["delay"])
        for _ in range(options["times"]):
            for parcel in options["parcels"]:
                for event in options["events"].split():
                    self.emit(event, parcel, delay=delay)

    def emit(self, event: str, parcel: str, *, delay: timedelta | None) -> None:
        with transaction.atomic():
            row, _ = Parcel.objects.get_or_create(parcel=parcel, event=event)
            # The row stays locked, so events of a parcel commit in the order of their numbers.
            Parcel.objects.filter(pk=row.pk).update(number=F("number") + 1)
            row.refresh_from_db()
            made = getattr(events, event)(parcel=parcel, number=row.number, emitted_with=RELEASE)
            emit(made, delay=delay)
