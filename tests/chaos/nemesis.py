"""Run a schedule, each of its sequences in its own thread, and record recovery times."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from tests.chaos.registry import Faults
from tests.chaos.schedule import GAPS, Act


class Watch(Protocol):
    """Measures what follows a fault, whose begin and end it is given by the fault's thread."""

    def begin(self) -> None: ...
    def mark(self, fault: str) -> None: ...


class Nemesis:
    def __init__(
        self, world: object, recovery: Watch, acts: Sequence[Act], *, faults: Faults
    ) -> None:
        self._world, self._recovery, self._faults = world, recovery, faults
        self._acts = acts
        self._lanes = [
            threading.Thread(target=self._act_out, args=[lane, acts], daemon=True) for lane in GAPS
        ]
        self.troubles: list[str] = []

    def run(self) -> None:
        """Run the whole schedule. Each fault has ended when this returns."""
        self._began = time.monotonic()
        for lane in self._lanes:
            lane.start()
        for lane in self._lanes:
            lane.join()

    def run_apart(self, has_recovered: Callable[[], bool]) -> None:
        """Run one fault after the other, each after the recovery from the one before it."""
        for act in self._acts:
            self._began = time.monotonic() - act.at
            self._do(act)
            while not has_recovered():
                time.sleep(0.2)

    def _act_out(self, lane: str, acts: Sequence[Act]) -> None:
        for act in acts:
            if self._faults.kinds[act.fault].lane == lane:
                self._sleep_until(act.at)
                self._do(act)

    def _do(self, act: Act) -> None:
        print(f"{self._elapsed():7.1f} s  {act.fault}", flush=True)
        self._recovery.begin()
        try:
            with self._faults.by_name[act.fault](self._world, random.Random(act.pick)):
                self._sleep_until(act.at + act.lasts)
        except Exception as error:  # the next fault comes all the same; the run has failed
            self.troubles.append(f"{act.fault}: {type(error).__name__}: {error}")
        self._recovery.mark(act.fault)

    def _elapsed(self) -> float:
        return time.monotonic() - self._began

    def _sleep_until(self, moment: float) -> None:
        time.sleep(max(0.0, moment - self._elapsed()))
