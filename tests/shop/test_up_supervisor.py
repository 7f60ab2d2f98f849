"""The supervisor of `manage.py up` with real processes and signals."""

from __future__ import annotations

import io
import os
import pty
import re
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import PIPE
from typing import Any

import pytest

from shop.up.console import Console
from shop.up.processes import Process, Program
from shop.up.slots import Slot
from shop.up.supervisor import Supervisor
from tests.processes import Running, children, eventually, is_alive


class Stack:
    """Dummy programs under the real supervisor; the journal has their actions, in order."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.up: Running | None = None

    def runs(self, *programs: str, stdout: int = PIPE, **environment: str | None) -> Running:
        script = Path(__file__).with_name("dummy_stack.py")
        self.up = Running(
            [sys.executable, str(script), str(self.folder), *programs],
            environment=environment,
            stdout=stdout,
        )
        return self.up

    def journal(self, *words: str) -> list[str]:
        """What happened, as "start web": all of it, or only the given words."""
        return [f"{word} {name}" for word, name, _ in self._entries() if word in words]

    def pid(self, word: str, name: str) -> int:
        """The last process id that was noted with this word and name."""
        return next(pid for w, n, pid in reversed(self._entries()) if (w, n) == (word, name))

    def pids(self) -> list[int]:
        return [pid for _, _, pid in self._entries()]

    def change(self, path: str) -> None:
        (self.folder / "changing").write_text(path)
        (self.folder / "changing").rename(self.folder / "changed")

    def _entries(self) -> list[tuple[str, str, int]]:
        journal = self.folder / "journal"
        lines = journal.read_text().splitlines() if journal.exists() else []
        return [(word, name, int(pid)) for word, name, pid in (line.split() for line in lines)]


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    stack = Stack(tmp_path)
    yield stack
    if stack.up is not None:
        stack.up.end_for_sure()
        eventually(lambda: not any(map(is_alive, stack.pids())), "all dummies gone")


class TestStart:
    def test_goes_by_stages_each_ready_before_the_next(self, stack: Stack) -> None:
        stack.runs("web:2:serve", "bank:1:serve", "broker:0:serve").says("all ready")

        assert stack.journal("start", "ready") == [
            "start broker",
            "ready broker",
            "start bank",
            "ready bank",
            "start web",
            "ready web",
        ]

    def test_prefixes_each_line_with_the_name_of_its_program(self, stack: Stack) -> None:
        up = stack.runs("broker:0:serve", "notifications:1:serve")

        up.says("all ready")

        assert "broker        | at your service" in up.lines
        assert "notifications | at your service" in up.lines

    def test_uses_no_colours_without_a_terminal(self, stack: Stack) -> None:
        up = stack.runs("broker:0:serve")

        up.says("all ready")

        assert "\x1b" not in up.output

    def test_ends_with_an_error_if_a_program_fails(self, stack: Stack) -> None:
        up = stack.runs("broker:0:serve", "web:1:fails")

        code = up.ends()

        assert code == 1
        assert up.lines[-1].endswith(
            "web ended before it was ready (exit code 3: there is no cheese)."
        )
        assert stack.journal("stop") == ["stop broker"]

    def test_ends_if_a_program_is_never_ready(self, stack: Stack) -> None:
        up = stack.runs("broker:0:never ready", READY_WITHIN="10")

        code = up.ends()

        assert code == 1
        assert up.lines[-1].endswith("broker was not ready after 10 seconds.")
        assert stack.journal("stop") == ["stop broker"]

    def test_is_interrupted_by_a_signal(self, stack: Stack) -> None:
        up = stack.runs("broker:0:serve", "web:1:never ready")
        eventually(lambda: "start web" in stack.journal("start"), "web starts")

        up.send(signal.SIGINT)

        assert up.ends() == 0
        assert stack.journal("stop") == ["stop web", "stop broker"]


class TestStop:
    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
    def test_is_in_reverse_order_on_each_signal(self, stack: Stack, number: signal.Signals) -> None:
        up = stack.runs("broker:0:serve", "bank:1:serve", "web:2:serve")
        up.says("all ready")

        up.send(number)

        assert up.ends() == 0
        assert stack.journal("stop") == ["stop web", "stop bank", "stop broker"]
        assert not any(map(is_alive, stack.pids()))

    def test_kills_a_program_that_ignores_sigterm(self, stack: Stack) -> None:
        up = stack.runs("broker:0:serve", "web:1:deaf", GRACE="10")
        up.says("all ready")

        up.send(signal.SIGTERM)

        assert up.ends() == 0
        assert "web did not stop in time. It is killed." in up.output
        assert not is_alive(stack.pid("start", "web"))
        assert stack.journal("stop") == ["stop broker"]

    def test_does_not_wait_for_the_grace_after_a_second_ctrl_c(self, stack: Stack) -> None:
        up = stack.runs("web:0:deaf", GRACE="600")
        up.says("all ready")
        up.send(signal.SIGINT)
        up.says("Stopping")

        def impatient() -> bool:
            if not up.has_ended:
                up.send(signal.SIGINT)
            return up.has_ended

        eventually(impatient, "the end, long before the grace")
        assert up.ends() == 0
        assert not is_alive(stack.pid("start", "web"))

    def test_kills_remaining_children(self, stack: Stack) -> None:
        up = stack.runs("web:0:leaves a child")
        up.says("all ready")

        up.send(signal.SIGTERM)

        assert up.ends() == 0
        assert not is_alive(stack.pid("child", "web"))

    def test_follows_a_closed_terminal(self, stack: Stack) -> None:
        terminal, side = pty.openpty()
        up = stack.runs("broker:0:serve", "web:1:serve", stdout=side)
        os.close(side)
        eventually(lambda: "ready web" in stack.journal("ready"), "web is ready")

        os.close(terminal)
        up.send(signal.SIGHUP)

        assert up.ends() == 0
        assert stack.journal("stop") == ["stop web", "stop broker"]


class TestAKilledSupervisor:
    def test_leaves_no_program_running(self, stack: Stack) -> None:
        up = stack.runs("broker:0:serve", "bank:1:leaves a child", "web:2:deaf", GRACE="10")
        (stack.folder / "run.json").touch()
        up.says("all ready")

        up.send(signal.SIGKILL)

        eventually(lambda: not any(map(is_alive, stack.pids())), "all programs gone")
        assert stack.journal("stop") == ["stop bank", "stop broker"]
        eventually(lambda: not (stack.folder / "run.json").exists(), "run.json removed")

    def test_leaves_no_program_running_after_the_guardian_was_killed(self, stack: Stack) -> None:
        up = stack.runs("broker:0:serve", "web:1:serve")
        first = int(up.says(r"guardian (\d+)")[1])
        up.says("all ready")
        os.kill(first, signal.SIGKILL)
        eventually(lambda: self._guardians(up) not in ([], [first]), "another guardian")

        up.send(signal.SIGKILL)

        eventually(lambda: not any(map(is_alive, stack.pids())), "all programs gone")

    def _guardians(self, up: Running) -> list[int]:
        return [pid for pid, command in children(up.pid).items() if "guardian.py" in command]


class TestACrashedProgram:
    def test_is_started_again(self, stack: Stack) -> None:
        up = stack.runs("web:1:serve")
        up.says("all ready")

        (stack.folder / "die").touch()

        up.says(r"web ended \(exit code 4: at your service\)\. It restarts in 0.5 s")
        up.says("web is ready again")

        assert stack.journal("start") == ["start web", "start web"]

    def test_is_started_again_after_sigkill(self, stack: Stack) -> None:
        up = stack.runs("web:0:leaves a child", PAUSE="0.01")
        up.says("all ready")
        child = stack.pid("child", "web")

        os.kill(stack.pid("start", "web"), signal.SIGKILL)

        up.says(r"web ended \(killed by SIGKILL: at your service\)")
        up.says("web is ready again")
        assert not is_alive(child)

    def test_ends_the_supervisor_after_five_crashes(self, stack: Stack) -> None:
        up = stack.runs("broker:0:serve", "web:1:serve", PAUSE="0.01")
        up.says("all ready")

        self._kill_whenever_it_runs(stack, up)

        assert up.ends() == 1
        assert up.lines[-1].endswith(
            "web ended 5 times in a row (killed by SIGKILL: at your service)."
        )
        assert stack.journal("stop") == ["stop broker"]

    def test_waits_for_a_change_if_code_is_watched(self, stack: Stack) -> None:
        up = stack.runs("web:0:serve:.", RELOAD="yes", PAUSE="0.01")
        up.says("all ready")
        killed = self._kill_whenever_it_runs(stack, up)

        stack.change("orders/views.py")

        up.says("Restarting web")
        eventually(lambda: stack.journal("ready").count("ready web") == killed + 1, "web is back")

    def _kill_whenever_it_runs(self, stack: Stack, up: Running) -> int:
        """Kill web each time that it is ready and has said so, until the supervisor gives it up."""
        killed: set[int] = set()

        def given_up() -> bool:
            pid = stack.pid("ready", "web")
            says = len(re.findall(r"web +\| at your service", up.output))
            if pid not in killed and says > len(killed):
                killed.add(pid)
                os.kill(pid, signal.SIGKILL)
            return re.search("ended again|in a row", up.output) is not None

        eventually(given_up, "the supervisor gives web up")
        return len(killed)


class TestChangedCode:
    def test_restarts_the_programs_that_run_it(self, stack: Stack) -> None:
        up = stack.runs("broker:0:serve", "bank:1:serve:bank", "web:2:serve:.", RELOAD="yes")
        up.says("all ready")

        stack.change("orders/views.py")

        up.says("Restarting web")
        up.says("web is ready again")
        assert stack.journal("start", "stop")[3:] == ["stop web", "start web"]

    def test_restarts_a_part_of_the_project_for_its_own_files_only(self, stack: Stack) -> None:
        up = stack.runs("bank:1:serve:bank", "web:2:serve:shop", RELOAD="yes")
        up.says("all ready")

        stack.change("bank/ledger.py")

        up.says("Restarting bank")
        up.says("bank is ready again")
        assert "stop web" not in stack.journal("stop")

    def test_that_fails_to_load_keeps_the_old_code_running(self, stack: Stack) -> None:
        up = stack.runs("web:2:serve:.", RELOAD="yes")
        up.says("all ready")
        (stack.folder / "broken").touch()

        stack.change("orders/views.py")

        up.says("The old code keeps running until the next change: SyntaxError, line 1")
        assert stack.journal("stop") == []
        assert is_alive(stack.pid("start", "web"))

    def test_starts_an_overlapping_program_before_the_old_one_stops(self, stack: Stack) -> None:
        """A request waited until the web server was there again: 13 s on a busy machine."""
        up = stack.runs("beat:2:serve:.", "web:1:serve:.:overlaps", RELOAD="yes")
        up.says("all ready")

        stack.change("orders/views.py")

        up.says("beat is ready again")
        changes = stack.journal("start", "ready", "stop")[4:]
        assert changes.index("ready web") < changes.index("stop web")
        assert changes.index("stop beat") < changes.index("start beat")

    def test_keeps_an_overlapping_program_whose_new_code_does_not_start(self, stack: Stack) -> None:
        up = stack.runs("beat:2:serve:.", "web:1:serve:.:overlaps", RELOAD="yes")
        up.says("all ready")
        old = stack.pid("start", "web")
        (stack.folder / "fails").touch()

        stack.change("orders/views.py")

        up.says("The old code keeps running until the next change: web does not start with it")
        assert stack.journal("stop") == []
        assert is_alive(old)

    def test_that_fails_to_load_ends_the_program_that_was_started_with_it(
        self, stack: Stack
    ) -> None:
        up = stack.runs("web:1:serve:.:overlaps", RELOAD="yes")
        up.says("all ready")
        old = stack.pid("start", "web")
        (stack.folder / "broken").touch()

        stack.change("orders/views.py")

        up.says("The old code keeps running until the next change: SyntaxError, line 1")
        eventually(lambda: {pid for pid in stack.pids() if is_alive(pid)} == {old}, "one web")


class SlotThatIsEmptied(Slot):
    """The main thread takes its process away as soon as another thread has read it."""

    def __getattribute__(self, name: str) -> Any:
        value = super().__getattribute__(name)
        if name == "process":
            self.process = None
        return value


class TestThePidOfAProgram:
    def test_is_none_or_complete_while_the_program_ends(self) -> None:
        """Failed with an AttributeError in the thread of the demo."""
        console = Console(io.StringIO())
        program = Program(name="relay", command=[sys.executable, "-c", ""])
        process = Process(program, console)
        supervisor = Supervisor(console)
        supervisor._slots = [SlotThatIsEmptied(program, process)]

        try:
            assert supervisor.pid_of("relay") == process.pid
            assert supervisor.pid_of("relay") is None
        finally:
            process.clear()


class TestConsole:
    @pytest.fixture
    def painted(self, stack: Stack) -> Callable[..., str]:
        def run(**environment: str | None) -> str:
            terminal, side = pty.openpty()
            up = stack.runs("web:0:fails", stdout=side, **environment)
            os.close(side)
            up.ends()
            output = b""
            with os.fdopen(terminal, "rb", buffering=0) as file:
                try:
                    while chunk := file.read(4096):
                        output += chunk
                except OSError:  # the other side is closed: all is read
                    pass
            return output.decode()

        return run

    def test_colours_prefixes_on_a_terminal(self, painted: Callable[..., str]) -> None:
        assert "\x1b[36mweb    |\x1b[0m there is no cheese" in painted(NO_COLOR=None)

    def test_respects_no_color(self, painted: Callable[..., str]) -> None:
        output = painted(NO_COLOR="1")

        assert "web    | there is no cheese" in output
        assert "\x1b" not in output
