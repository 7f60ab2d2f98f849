"""Archive of pruned events: newline-delimited JSON, gzip, on disk before they are deleted.

One run writes one file, `events-<time>-<pid>.ndjson.gz`. Each batch is one gzip member of it,
synced to disk before the transaction that deletes the batch commits. So every deleted event is in a
file. If a deletion was rolled back, for example by a crash, the event is in two files under the
same `id`. While a run writes, and after it was killed or the disk was full, the name ends in
`.part`. The next run cuts the incomplete member and gives the file its final name.
"""

from __future__ import annotations

import fcntl
import gzip
import json
import os
import zlib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from django.core.serializers.json import DjangoJSONEncoder
from django.utils import timezone

from outbox.conf import conf
from outbox.deliveries.statements import with_numbers
from outbox.models import Attempt, Delivery, Event
from outbox.privacy.redaction import blanked, is_unknown
from outbox.privacy.sensitive import masked

PART = ".part"


class Archive:
    """The file of one run, created at the first batch. Use `archive_in`.

    Attributes:
        folder: its folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._file: BinaryIO | None = None

    def add(self, events: Sequence[Event], *, using: str) -> None:
        """Write events with their deliveries and attempts, and sync them to disk.

        The caller has locked them and deletes them in the same transaction, or their day is closed.
        """
        if not events:
            return
        lines = "".join(_lines(events, using=using))
        file = self._opened()
        file.write(gzip.compress(lines.encode()))
        file.flush()
        os.fsync(file.fileno())

    def finish(self) -> None:
        """Give the file its final name, while it is locked."""
        if self._file is not None:
            _finish(Path(self._file.name))

    def close(self) -> None:
        """Close the file. One that is not finished is finished by the next run."""
        if self._file is not None:
            self._file.close()

    def _opened(self) -> BinaryIO:
        while self._file is None:
            name = f"events-{timezone.now():%Y%m%dT%H%M%S%fZ}-{os.getpid()}.ndjson.gz{PART}"
            file = (self.folder / name).open("xb")
            fcntl.flock(file, fcntl.LOCK_EX)  # until close: marks the file as being written
            if os.fstat(file.fileno()).st_nlink:
                self._file = file
                _sync_folder(self.folder)
            else:  # before the lock, another run took it for the file of a killed run
                file.close()
        return self._file


@contextmanager
def archive_in(folder: str | Path) -> Iterator[Archive]:
    """Open an archive in a folder. Create the folder if it is missing."""
    path = Path(folder)
    path.mkdir(parents=True, exist_ok=True)
    for left in sorted(path.glob(f"events-*{PART}")):
        with suppress(FileNotFoundError):  # its run has finished it since
            _recover(left)
    archive = Archive(path)
    with closing(archive):
        yield archive
        archive.finish()


def _lines(events: Sequence[Event], *, using: str) -> Iterator[str]:
    # Not by `event.deliveries` or a prefetch: a router may send both to a replica.
    seqs = [event.seq for event in events]
    rows = with_numbers(Delivery.objects.using(using), "event_id", seqs).order_by("id")
    deliveries: defaultdict[int, list[Delivery]] = defaultdict(list)
    ids = []
    for row in rows.select_related("subscription"):
        deliveries[row.event_id].append(row)
        ids.append(row.pk)
    attempts = with_numbers(Attempt.objects.using(using), "delivery_id", ids).order_by("id")
    failures: defaultdict[int, list[dict[str, Any]]] = defaultdict(list)
    for attempt in attempts:
        failures[attempt.delivery_id].append(_columns(attempt))
    for event in events:
        yield _line(event, deliveries[event.seq], failures)


def _line(
    event: Event, deliveries: Sequence[Delivery], failures: Mapping[int, list[dict[str, Any]]]
) -> str:
    line = {
        **_columns(event),
        **_payload(event),
        "deliveries": [
            {
                **_columns(row),
                **_returned(row),
                "handler": row.subscription.handler,
                "failures": failures[row.pk],
            }
            for row in deliveries
        ],
    }
    return json.dumps(line, cls=DjangoJSONEncoder, ensure_ascii=False) + "\n"


def _payload(event: Event) -> dict[str, Any]:
    """Return the payload, blanked unless `ARCHIVE_SENSITIVE`: redaction does not reach archives."""
    return {"payload": event.payload if conf().ARCHIVE_SENSITIVE else _blanked(event)}


def _blanked(event: Event) -> dict[str, Any]:
    # Nothing marks the sensitive fields of an unknown event, so each of its fields is masked.
    return masked(event) if is_unknown(event) else blanked(event)


def _returned(row: Delivery) -> dict[str, Any]:
    """Return the return value of a task, which may be personal data as its arguments may."""
    return {"returned": row.returned if conf().ARCHIVE_SENSITIVE else None}


def _columns(row: Any) -> dict[str, Any]:
    return {field.attname: getattr(row, field.attname) for field in row._meta.concrete_fields}


def _recover(path: Path) -> None:
    """Cut the incomplete member of a killed run and finish its file; skip a file in use."""
    with path.open("r+b") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        if path.exists():  # unless its run has just finished it
            file.truncate(_whole_members(file))
            os.fsync(file.fileno())
            _finish(path)


def _whole_members(file: BinaryIO) -> int:
    """Return the length in bytes of the complete members of a gzip file."""
    whole, member = 0, zlib.decompressobj(zlib.MAX_WBITS | 16)
    rest = b""
    while chunk := rest or file.read(1 << 16):
        try:
            member.decompress(chunk)
        except zlib.error:
            break
        rest = member.unused_data
        if member.eof:
            whole = file.tell() - len(rest)
            member = zlib.decompressobj(zlib.MAX_WBITS | 16)
    return whole


def _finish(path: Path) -> None:
    if path.stat().st_size:
        path.rename(path.with_name(path.name.removesuffix(PART)))
    else:
        path.unlink()
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
