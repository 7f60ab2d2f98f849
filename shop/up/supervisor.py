"""Start programs in order, keep them running, stop them in reverse."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Self

from shop.up.console import Console
from shop.up.errors import UpError
from shop.up.guardian import Guardian
from shop.up.processes import Process, Program
from shop.up.signals import TICK, Stopped, StopSignals
from shop.up.slots import MAX_CRASHES, Slot


class Supervisor:
    """Run programs until a signal or a failure ends it.

    Use it as a context manager: at the exit everything is stopped in any case, and a signal is a
    normal end. `start()` raises UpError, with one sentence, if a program ends or is not ready in
    time. Later, a dead program is restarted after a pause that doubles; five crashes in a row end
    `run()` with an UpError.

    `changes` returns the files of the project that changed since its last call. With it, the
    programs that run this code are restarted, unless `before_reload` raises UpError, or a program
    that overlaps its predecessor does not become ready: then the old code continues. A program that
    keeps dying then waits for a change instead of ending all.
    `inherited` descriptors are shared with the guardian.
    """

    def __init__(
        self,
        console: Console,
        *,
        changes: Callable[[], Sequence[Path]] | None = None,
        before_reload: Callable[[], None] = lambda: None,
        inherited: Sequence[int] = (),
    ) -> None:
        self._console = console
        self._changes = changes
        self._before_reload = before_reload
        self._inherited = inherited
        self._slots: list[Slot] = []

    def __enter__(self) -> Self:
        self._signals = StopSignals()
        self._guardian = Guardian(self._inherited)
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> bool:
        self._stop_all()
        self._guardian.dismiss()
        self._signals.ignore()
        return kind is Stopped

    @property
    def guardian_pid(self) -> int:
        return self._guardian.pid

    def pid_of(self, name: str) -> int | None:
        """Return the process id of a program; None while it is dead."""
        # Other threads call this. So each process is read once: it may become None at any time.
        processes = [slot.process for slot in self._slots if slot.name == name]
        return next((one.pid for one in processes if one is not None), None)

    def interrupt(self, name: str, *, seconds: float) -> None:
        """Kill a program with its children, and start it again later. It counts as no crash."""
        for slot in self._slots:
            if slot.name == name:
                if slot.process is not None:
                    slot.process.clear()
                    self._guardian.ended(slot.process.pid)
                slot.interrupted(seconds)

    # -- starting

    def start(self, programs: Iterable[Program]) -> None:
        """Start programs stage by stage, each stage once the one before it is ready."""
        new = [Slot(program) for program in programs]
        self._console.reserve(*(slot.name for slot in new))
        self._slots += new
        for stage in sorted({slot.program.stage for slot in new}):
            members = [slot for slot in new if slot.program.stage == stage]
            for slot in members:
                slot.started(self._spawn(slot.program))
            self._await_ready(members)

    def call(self, program: Program) -> None:
        """Run a program to its end; raise UpError with its last line if it fails."""
        process = self._spawn(program)
        try:
            while process.exit_code is None:
                self._signals.pause()
        finally:
            self._end([process])
        if process.exit_code:
            raise UpError(
                process.last_line or f"{process.name} failed ({process.exit_description()})."
            )

    def remove_at_the_end(self, path: Path) -> None:
        """Delete this file once everything has stopped, even if the supervisor is killed."""
        self._guardian.remove_at_the_end(path)

    def _spawn(self, program: Program) -> Process:
        process = Process(program, self._console)
        self._guardian.runs(stage=program.stage, pid=process.pid, grace=program.grace)
        return process

    def _await_ready(self, slots: Sequence[Slot]) -> None:
        while waiting := [slot for slot in slots if not slot.ready]:
            for slot in waiting:
                self._check_start(slot)
            self._signals.pause()

    def _check_start(self, slot: Slot) -> None:
        assert slot.process is not None
        if slot.has_ended:
            slot.process.clear()
            raise UpError(
                f"{slot.name} ended before it was ready ({slot.process.exit_description()})."
            )
        if not slot.becomes_ready() and slot.is_late():
            raise UpError(f"{slot.name} was not ready after {slot.program.ready_within:g} seconds.")

    # -- running

    def run(
        self,
        *,
        until: Callable[[], bool] = lambda: False,
        each_turn: Callable[[], None] = lambda: None,
    ) -> None:
        """Run until a signal arrives (Stopped) or `until` is true; restart what dies or changes."""
        while not until():
            each_turn()
            for slot in self._slots:
                self._check_slot(slot)
            self._check_code()
            self._guardian.check()
            self._signals.pause()

    def _check_slot(self, slot: Slot) -> None:
        if slot.has_ended:
            self._handle_crash(slot)
        elif slot.becomes_ready():
            self._console.info(f"{slot.name} is ready again.")
        elif slot.is_due:
            slot.started(self._spawn(slot.program))

    def _handle_crash(self, slot: Slot) -> None:
        assert slot.process is not None
        self._end([slot.process])
        end = slot.process.exit_description()
        pause = slot.record_crash()
        if pause is not None:
            self._console.error(f"{slot.name} ended ({end}). It restarts in {pause:g} s.")
        elif self._changes is not None and slot.program.code is not None:
            self._console.error(
                f"{slot.name} ended again ({end}). It restarts after the next code change."
            )
        else:
            raise UpError(f"{slot.name} ended {MAX_CRASHES} times in a row ({end}).")

    def _check_code(self) -> None:
        paths = self._changes() if self._changes is not None else ()
        slots = [slot for slot in self._slots if slot.runs(paths)]
        if not slots:
            return
        self._console.info(f"{_listed(paths)} changed.")
        # They start while the checks run, so that both take the time of one.
        beside = [slot for slot in slots if slot.overlaps]
        successors = {slot.name: self._spawn(slot.program) for slot in beside}
        try:
            self._before_reload()
            self._await_successors(successors.values())
        except UpError as error:
            self._end(list(successors.values()))
            self._console.error(f"The old code keeps running until the next change: {error}")
        except BaseException:
            self._end(list(successors.values()))
            raise
        else:
            self._console.info(f"Restarting {_listed(slot.name for slot in slots)}.")
            old = self._replace(beside, successors)
            self._restart([slot for slot in slots if slot not in beside], besides=old)

    def _await_successors(self, processes: Collection[Process]) -> None:
        """Wait until they are ready; raise UpError if one ends, or is not ready in time."""
        since = time.monotonic()
        while waiting := [one for one in processes if not one.is_ready()]:
            for process in waiting:
                if process.exit_code is not None:
                    reason = process.exit_description()
                    raise UpError(f"{process.name} does not start with it ({reason}).")
                if time.monotonic() - since > process.program.ready_within:
                    raise UpError(f"{process.name} was not ready in time.")
            self._signals.pause()

    def _replace(self, slots: Sequence[Slot], successors: Mapping[str, Process]) -> list[Process]:
        """Put a ready process in the place of each old one; return the old ones, still running."""
        old = [slot.process for slot in slots if slot.process is not None]
        for slot in slots:
            slot.stopped()
            slot.started(successors[slot.name])
            slot.becomes_ready()
            self._console.info(f"{slot.name} is ready again.")
        return old

    def _restart(self, slots: Sequence[Slot], *, besides: Sequence[Process]) -> None:
        """Stop these programs and other processes together, then start the programs again."""
        self._end([*(slot.process for slot in slots if slot.process is not None), *besides])
        for slot in slots:
            slot.stopped()
            slot.started(self._spawn(slot.program))

    # -- stopping

    def _stop_all(self) -> None:
        if any(slot.process for slot in self._slots):
            reason = f" ({self._signals.name})" if self._signals.name else ""
            self._console.info(f"Stopping{reason} ...")
        for stage in sorted({slot.program.stage for slot in self._slots}, reverse=True):
            members = [slot for slot in self._slots if slot.program.stage == stage]
            self._end([slot.process for slot in members if slot.process is not None])
        self._slots.clear()

    def _end(self, processes: Sequence[Process]) -> None:
        """Send SIGTERM to all, wait for each grace, then SIGKILL the rest and its children."""
        for process in processes:
            process.terminate()
        asked_at = time.monotonic()
        for process in processes:
            deadline = asked_at + process.program.grace
            while process.exit_code is None and not self._signals.hurry:
                if time.monotonic() > deadline:
                    self._console.error(f"{process.name} did not stop in time. It is killed.")
                    break
                time.sleep(TICK)
            process.clear()
            self._guardian.ended(process.pid)


def _listed(names: Iterable[object], *, most: int = 4) -> str:
    """ "a, b, c" or "a, b, c, d and 12 more"."""
    words = [str(name) for name in names]
    more = len(words) - most
    return ", ".join(words) if more <= 0 else f"{', '.join(words[:most])} and {more} more"
