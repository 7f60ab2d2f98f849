"""A small program for the supervisor that logs its start and stop.

Usage: dummy_program.py JOURNAL NAME BEHAVIOUR

A file `die` beside the journal ends one of them, which takes the file along. With a file `fails`
none can start.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType

journal, name, behaviour = Path(sys.argv[1]), sys.argv[2], sys.argv[3]


def note(word: str, pid: int | None = None) -> None:
    with journal.open("a") as file:
        file.write(f"{word} {name} {pid or os.getpid()}\n")


def end(number: int, frame: FrameType | None) -> None:
    note("stop")
    sys.exit(0)


signal.signal(signal.SIGTERM, signal.SIG_IGN if behaviour == "deaf" else end)
note("start")

if behaviour == "fails" or (journal.parent / "fails").exists():
    print("there is no cheese", flush=True)
    sys.exit(3)
if behaviour == "leaves a child":
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    note("child", child.pid)
if behaviour != "never ready":
    note("ready")
    print("at your service", flush=True)
while not (journal.parent / "die").exists():
    time.sleep(0.02)
(journal.parent / "die").unlink()
sys.exit(4)
