"""Files of databases that only their owner may read."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path

#: SQLite gives its journals the mode of the database beside them.
JOURNALS = ("-wal", "-shm", "-journal")


def create_database_file(path: Path) -> None:
    """Create an empty file with mode 600 for SQLite to fill; do nothing where one is."""
    os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))


def close_to_others(path: Path) -> None:
    """Take every right of others away from our own database file and its journals."""
    for file in (path, *(path.with_name(path.name + journal) for journal in JOURNALS)):
        with suppress(FileNotFoundError, PermissionError):
            file.chmod(stat.S_IMODE(file.stat().st_mode) & 0o700)
