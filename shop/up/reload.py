"""Detect changed code by polling: no dependency, and the same on every system.

A scan of this project's few hundred files takes some milliseconds, four times a second. After a
change the next one follows sooner, since all that a save starts waits for it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

INTERVAL = 0.25
INTERVAL_AFTER_CHANGE = 0.1
SUFFIXES = (".py", ".mo")
IGNORED = {"__pycache__", "node_modules", "tests", "docs", "benchmarks"}


class CodeWatcher:
    """Returns the files (relative to `root`) that were changed, added or deleted. Call it often.

    It reports once the writing is over, so that a `git checkout` is one change and not a hundred.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._known = self._scan()
        self._changed: set[Path] = set()
        self._next = 0.0

    def __call__(self) -> list[Path]:
        if time.monotonic() < self._next:
            return []
        seen = self._scan()
        changed = {path for path, _ in seen.items() ^ self._known.items()}
        self._known = seen
        self._next = time.monotonic() + (INTERVAL_AFTER_CHANGE if changed else INTERVAL)
        if changed:
            self._changed |= changed
            return []
        settled, self._changed = sorted(self._changed), set()
        return settled

    def _scan(self) -> dict[Path, tuple[int, int]]:
        return {
            Path(file.path).relative_to(self._root): (stat.st_mtime_ns, stat.st_size)
            for file, stat in _code(self._root)
        }


def _code(
    folder: Path, *, templates: bool = False
) -> Iterator[tuple[os.DirEntry[str], os.stat_result]]:
    """Return all code files below a folder; in a folder `templates`, every file."""
    try:
        entries = list(os.scandir(folder))
    except OSError:  # deleted during the scan
        return
    for entry in entries:
        if entry.name.startswith(".") or entry.name in IGNORED:
            continue
        if entry.is_dir(follow_symlinks=False):
            if not os.path.exists(os.path.join(entry.path, "pyvenv.cfg")):
                inside = templates or entry.name == "templates"
                yield from _code(Path(entry.path), templates=inside)
        elif templates or entry.name.endswith(SUFFIXES):
            try:
                yield entry, entry.stat()
            except OSError:
                continue
