from __future__ import annotations

from asgiref.sync import sync_to_async
from django.db import connection

from outbox import Receipt, emit, subscribe

from .events import NoteStored
from .models import Note


def _store(text: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SHOW search_path")
        (path,) = cursor.fetchone()
    Note.objects.create(text=text, path=path)


@subscribe("notes.NoteWritten")
def store(text: str) -> None:
    _store(text)
    emit(NoteStored(text=text))


@subscribe("notes.NoteWritten", atomic=False)
def store_with_receipt(text: str, receipt: Receipt) -> None:
    Note.objects.count()
    with receipt:
        _store(text)


@subscribe("notes.NoteWritten")
async def store_async(text: str) -> None:
    await sync_to_async(_store)(text)
