"""Print lines from several programs, each with a prefix, and survive a closed terminal."""

from __future__ import annotations

import os
import sys
import threading
from typing import TextIO

COLOURS = (36, 33, 32, 35, 34, 96, 93, 92, 95, 94)
BOLD_RED = "1;31"


class Console:
    """Write whole lines, one at a time, from any thread.

    Colours are used only if the stream is a terminal and `NO_COLOR` is unset. With `quiet`, the
    programs' own lines are left out; lines of the supervisor, called `name`, are always printed.
    All lines of the programs are added to the file `log`, if one is given.
    """

    def __init__(
        self,
        stream: TextIO | None = None,
        *,
        quiet: bool = False,
        name: str = "up",
        log: TextIO | None = None,
    ) -> None:
        self.quiet = quiet
        self._name = name
        self._log = log
        self._stream = stream or sys.stdout
        self._coloured = self._stream.isatty() and "NO_COLOR" not in os.environ
        self._lock = threading.Lock()
        self._colours: dict[str, int] = {}
        self._width = 6
        self._open = True

    def reserve(self, *names: str) -> None:
        """Make the column of prefixes wide enough for these names, and give each a colour."""
        self._width = max(self._width, *(len(name) for name in names))
        for name in names:
            self._colours.setdefault(name, COLOURS[len(self._colours) % len(COLOURS)])

    def line(self, name: str, text: str) -> None:
        """Print one line of a program's own output."""
        if self._log:
            print(name.ljust(self._width), "|", text, file=self._log, flush=True)
        if not self.quiet:
            self._write(f"{self._prefix(name)} {text}")

    def info(self, text: str) -> None:
        """Print a line of the supervisor."""
        self._write(f"{self._paint(f'{self._name.ljust(self._width)} |', '1')} {text}")

    def error(self, text: str) -> None:
        """Print a warning of the supervisor."""
        self._write(f"{self._paint(f'{self._name.ljust(self._width)} |', BOLD_RED)} {text}")

    def write(self, text: str) -> None:
        """Print a text as it is."""
        self._write(text)

    def _prefix(self, name: str) -> str:
        return self._paint(f"{name.ljust(self._width)} |", str(self._colours.get(name, 37)))

    def _paint(self, text: str, code: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self._coloured else text

    def _write(self, text: str) -> None:
        with self._lock:
            if not self._open:
                return
            try:
                self._stream.write(text + "\n")
                self._stream.flush()
            except (OSError, ValueError):  # the terminal is closed: continue, and stop in order
                self._open = False
                _forget_terminal()


def _forget_terminal() -> None:
    """Point stdout and stderr to nowhere; otherwise the interpreter's flush at exit fails."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for descriptor in (1, 2):
        os.dup2(nowhere, descriptor)
    os.close(nowhere)
