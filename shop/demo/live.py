"""A block of lines at the bottom of a terminal that is drawn again and again, below the log."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Sequence
from typing import Self, TextIO

#: Seconds between two drawings.
INTERVAL = 0.5
#: To the first column of so many lines above, and from there on nothing.
_UP_AND_CLEAR = "\x1b[{lines}F\x1b[0J"


class LiveStream:
    """A stream for a `Console`: the lines of `frame` stay below all that is written to it.

    Use it as a context manager. `frame` takes width and height of the terminal, in characters, and
    returns at most that many lines. It is called in a thread of its own. Without a terminal nothing
    but the written text appears.
    """

    def __init__(
        self, stream: TextIO, frame: Callable[[int, int], Sequence[str]], *, every: float = INTERVAL
    ) -> None:
        self._stream = stream
        self._frame = frame
        self._every = every
        self._lock = threading.Lock()
        self._lines: list[str] = []
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._draw_again, name="live", daemon=True)

    def __enter__(self) -> Self:
        if self.isatty():
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Draw a last time, and leave the lines where they are."""
        self._ending.set()
        if self._thread.is_alive():
            self._thread.join()

    def isatty(self) -> bool:
        """Return whether the stream is a terminal."""
        return self._stream.isatty()

    def write(self, text: str) -> int:
        """Write text above the lines."""
        with self._lock:
            self._erase()
            self._stream.write(text)
            self._show()
        return len(text)

    def flush(self) -> None:
        """Flush the stream."""
        self._stream.flush()

    def _draw_again(self) -> None:
        is_over = False
        while not is_over:
            is_over = self._ending.wait(self._every)
            size = shutil.get_terminal_size()
            lines = [line[: size.columns - 1] for line in self._frame(size.columns, size.lines)]
            with self._lock:
                self._erase()
                self._lines = lines
                self._show()

    def _erase(self) -> None:
        if self._lines:
            self._stream.write(_UP_AND_CLEAR.format(lines=len(self._lines)))

    def _show(self) -> None:
        self._stream.write("".join(f"{line}\n" for line in self._lines))
        self._stream.flush()
