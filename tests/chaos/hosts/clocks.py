"""Clocks that differ between hosts, by Debian's libfaketime.

A host's processes are started with the library. It reads the offset from a file, so a clock can be
moved while they run. The clocks that measure durations (CLOCK_MONOTONIC) are not changed.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

MISSING = "Clocks stay equal: libfaketime is missing (apt-get install libfaketime)."
_PLACES = "lib/*/faketime/libfaketimeMT.so.1"


def library() -> Path | None:
    """Return the installed library."""
    return next(iter(sorted(Path("/usr").glob(_PLACES))), None)


class Clock:
    """The clock of a host.

    Attributes:
        variables: of the host's processes; empty without the library.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self.set(0)
        found = library()
        self.variables: Mapping[str, str] = {}
        if found is not None:
            self.variables = {
                "LD_PRELOAD": str(found),
                "FAKETIME_TIMESTAMP_FILE": str(file),
                "FAKETIME_CACHE_DURATION": "1",
                "FAKETIME_DONT_FAKE_MONOTONIC": "1",
                "FAKETIME_DONT_RESET": "1",
            }

    def set(self, seconds: int) -> None:
        """Let it differ by this many seconds from the machine's."""
        draft = self._file.with_suffix(".draft")
        draft.write_text(f"{seconds:+d}s\n")
        draft.rename(self._file)
