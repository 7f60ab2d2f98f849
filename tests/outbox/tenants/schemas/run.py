"""Emit events in the schemas of two customers, handle them, and print what is where, as JSON."""

from __future__ import annotations

import json
import logging
from typing import Any

import django

NUMBER = 5


def main() -> None:
    django.setup()
    from django.core.management import call_command
    from django.db import connection, transaction
    from django_tenants.utils import schema_context

    from outbox import emit
    from outbox.models import Event

    from .customers.models import Customer
    from .notes.events import NoteWritten
    from .notes.models import Note

    call_command("migrate_schemas", interactive=False, verbosity=0)
    for schema in ("acme", "bolt"):
        Customer(schema_name=schema).save()
    for number in range(NUMBER):
        for schema in ("acme", "bolt"):
            with schema_context(schema), transaction.atomic():
                emit(NoteWritten(number=number, text=f"{schema} {number}"))
    Event.objects.update(share=None)  # so that a message has deliveries of both customers
    sessions = _run_all()
    found: dict[str, Any] = {"sessions": len(sessions), "schema_afterwards": connection.schema_name}
    for schema in ("acme", "bolt"):
        with schema_context(schema):
            found[schema] = sorted(Note.objects.values_list("text", "path"))
    found["events"] = sorted(Event.objects.values_list("name", "tenant", "key"))
    print(json.dumps(found))


def _run_all() -> set[int]:
    """Relay and handle all events. Return the processes of the database that served it."""
    from django.db import connection

    from outbox.models import Delivery
    from tests.outbox.drive import run_messages, run_pass

    logging.disable(logging.INFO)
    sessions = set()
    while messages := run_pass():
        run_messages(messages)
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_backend_pid()")
            sessions.add(cursor.fetchone()[0])
    assert set(Delivery.objects.values_list("state", flat=True)) == {"done"}
    return sessions


if __name__ == "__main__":
    main()
