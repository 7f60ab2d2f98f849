"""Replace a file as a whole: a write that is interrupted leaves the present text."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path
from tempfile import NamedTemporaryFile


def replace(path: Path, text: bytes) -> None:
    """Write a file beside it, and put that in its place. A link stays, and its target changes.

    Args:
        path: the file. It keeps its permissions.
        text: its new bytes.

    Raises:
        OSError: it cannot be written, or is read-only.
    """
    target = path.resolve()
    if target.exists():
        target.open("r+b").close()  # a read-only file is the owner's decision
    # The end of the name is not .py, so nothing imports it.
    with NamedTemporaryFile(dir=target.parent, prefix=f".{target.name}.", delete=False) as made:
        new = Path(made.name)
    try:
        new.write_bytes(text)
        if target.exists():
            shutil.copymode(target, new)
        else:
            new.chmod(0o666 & ~_umask())
        new.replace(target)
    except OSError:
        with suppress(OSError):
            new.unlink()
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
