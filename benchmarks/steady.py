"""Orders at a steady pace, alone and for as long as a probe runs."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.ground import Stage

#: Orders per second. The first half second of each program does not count.
PER_SECOND = 100

_EMIT = "benchmarks.project.emit"
_PACE = ("--per-second", str(PER_SECOND))
_NAME = "emitter"


def emit(stage: Stage, seconds: int) -> list[float]:
    """Emit for so long; return the milliseconds of each order."""
    return _counted(stage.call(_EMIT, seconds * PER_SECOND, *_PACE))


def emit_beside(stage: Stage, probe: str, *, ceiling: float) -> tuple[list[float], Any]:
    """Emit from before a probe begins until it has ended.

    One program emits all the time, so no step of the probe is left out.

    Args:
        stage: where both run.
        probe: the module of the probe.
        ceiling: the most seconds that the probe may take.

    Returns:
        The milliseconds of each order, and the value that the probe printed.
    """
    with tempfile.TemporaryDirectory(prefix="steady-") as folder:
        end = Path(folder) / "end"
        stage.start_module(_NAME, _EMIT, "0", "--until", str(end), *_PACE)
        done = stage.call(probe, ceiling=ceiling)
        end.touch()
        stage.wait_until(lambda: not stage.is_running(_NAME), "the emitter has ended")
    return _counted(json.loads(stage.log(_NAME).strip().splitlines()[-1])), done


def _counted(printed: dict[str, list[float]]) -> list[float]:
    return printed["milliseconds"][PER_SECOND // 2 :]
