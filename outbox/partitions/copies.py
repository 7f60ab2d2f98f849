"""Copies of a partition's rows, to store them again after the partition was truncated.

The rows are stored as frozen ones: every snapshot sees them, also one that is older than the
`TRUNCATE`. https://www.postgresql.org/docs/current/sql-copy.html (FREEZE)
"""

from __future__ import annotations

from collections.abc import Collection
from contextlib import ExitStack
from dataclasses import dataclass
from tempfile import SpooledTemporaryFile
from typing import IO, Any

from django.db import connections

from outbox.deliveries.statements import numbers, read

from .catalogue import KEYS, Partition

#: Bytes of a copy in memory. The rest is in a temporary file.
_IN_MEMORY = 32 * 1024 * 1024
_BLOCK = 64 * 1024


@dataclass(frozen=True)
class Copy:
    """The copied rows of one partition.

    Attributes:
        leaf: the name of the partition.
        columns: the names of the copied columns, quoted.
        file: the rows in PostgreSQL's binary format.
    """

    leaf: str
    columns: str
    file: IO[bytes]

    @classmethod
    def of(cls, leaf: Partition, seqs: Collection[int], files: ExitStack, *, using: str) -> Copy:
        """Copy the rows of events to a file that `files` closes."""
        columns = ", ".join(column for (column,) in read(_COLUMNS, leaf.name, using=using))
        key = KEYS[leaf.parent]
        rows = (
            f'SELECT {columns} FROM "{leaf.name}" '  # noqa: S608  ours
            f"WHERE {key} IN ({numbers(seqs)}) ORDER BY {key}"
        )
        file: IO[bytes] = files.enter_context(SpooledTemporaryFile(_IN_MEMORY))  # noqa: SIM115
        _copy(f"COPY ({rows}) TO STDOUT (FORMAT binary)", file, is_read=True, using=using)
        return cls(leaf.name, columns, file)

    def store(self, *, using: str) -> None:
        """Store the rows in the partition that the open transaction has truncated.

        The `TRUNCATE` and this belong to the same transaction or savepoint.
        """
        self.file.seek(0)
        statement = f'COPY "{self.leaf}" ({self.columns}) FROM STDIN (FORMAT binary, FREEZE)'
        _copy(statement, self.file, is_read=False, using=using)


def _copy(statement: str, file: IO[bytes], *, is_read: bool, using: str) -> None:
    connection = connections[using]
    with connection.cursor() as wrapper, connection.wrap_database_errors:
        cursor: Any = wrapper.cursor
        if hasattr(cursor, "copy_expert"):  # psycopg 2
            cursor.copy_expert(statement, file)
            return
        with cursor.copy(statement) as copy:
            if is_read:
                for block in copy:
                    file.write(block)
            else:
                while block := file.read(_BLOCK):
                    copy.write(block)


# A generated column cannot be stored.
_COLUMNS = """
SELECT quote_ident(attname) FROM pg_attribute WHERE attrelid = to_regclass(quote_ident(%s))
AND attnum > 0 AND NOT attisdropped AND attgenerated = '' ORDER BY attnum"""
