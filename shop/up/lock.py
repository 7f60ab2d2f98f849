"""Lock on a data folder, for one supervisor."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import Self

from shop.up.errors import UpError
from shop.up.files import read_json


class Lock:
    """Hold `up.pid` in the data folder, locked and with our process id in it.

    The system releases the lock with the last process that holds the descriptor, so a killed
    supervisor leaves nothing behind. Raises UpError if another supervisor is running.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / "up.pid"
        self.descriptor = os.open(self._path, os.O_CREAT | os.O_RDWR, 0o600)
        try:
            fcntl.flock(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UpError(self._owner(folder)) from None
        os.truncate(self.descriptor, 0)
        os.write(self.descriptor, f"{os.getpid()}\n".encode())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        # The file stays: if it were deleted, two of us could lock two files of one name.
        os.truncate(self.descriptor, 0)
        os.close(self.descriptor)

    def _owner(self, folder: Path) -> str:
        pid = int(self._path.read_text().strip() or 0)
        if not pid or not _is_alive(pid):
            return (
                "The last `up` was killed, and its programs are still stopping. Try "
                "again in some seconds."
            )
        port = read_json(folder / "run.json").get("PORT")
        where = f"at http://127.0.0.1:{port}/" if port else "and is still starting"
        return (
            f"`up` runs already (pid {pid}) {where}. "
            "Stop it first, or start this one with another --data and --port."
        )


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
