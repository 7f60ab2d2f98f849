"""Requests of the development drawer to the supervisor: files that only its user may write."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from shop.up import control
from shop.up.control import FAULTS, Control
from shop.up.errors import UpError
from tests.processes import Running, eventually, is_alive


class Supervisor:
    """Records the programs that are killed. The real one is in `TestTheSupervisor`."""

    def __init__(self, *programs: str) -> None:
        self.programs = programs
        self.killed: list[str] = []

    def pid_of(self, name: str) -> int | None:
        return 1 if name in self.programs else None

    def interrupt(self, name: str, *, seconds: float) -> None:
        self.killed.append(name)


@pytest.fixture
def supervisor() -> Supervisor:
    return Supervisor("worker", "bank")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "control"


@pytest.fixture
def ours(folder: Path, supervisor: Supervisor) -> Control:
    return Control(folder, supervisor, lambda text: None)


class TestARequest:
    def test_is_carried_out_once(self, ours, folder, supervisor):
        control.request(folder, "kill-worker")
        control.request(folder, "kill-worker")

        ours.check()
        ours.check()

        assert supervisor.killed == ["worker"]

    def test_is_reported_with_the_seconds_that_are_left(self, ours, folder):
        control.request(folder, "bank-down")
        ours.check()

        left = control.state_of(folder).seconds_left

        assert 0 < left["bank-down"] <= FAULTS["bank-down"].seconds

    def test_of_an_earlier_run_is_dropped(self, ours, folder, supervisor):
        control.request(folder, "kill-worker")

        Control(folder, supervisor, lambda text: None).check()

        assert supervisor.killed == []

    @pytest.mark.parametrize("name", ["no-such-fault", "../bank-down", ""])
    def test_with_an_unknown_name_writes_nothing(self, ours, folder, name):
        with pytest.raises(KeyError):
            control.request(folder, name)

        assert [path.name for path in folder.parent.rglob("*") if path.is_file()] == ["state.json"]

    def test_that_is_a_link_is_refused(self, ours, folder, supervisor, tmp_path):
        (tmp_path / "file").touch()
        (folder / "kill-worker").symlink_to(tmp_path / "file")

        ours.check()

        assert supervisor.killed == []
        assert (tmp_path / "file").exists()


class TestTheFolder:
    def test_is_closed_to_other_users(self, ours, folder):
        control.request(folder, "kill-worker")

        assert folder.stat().st_mode & 0o077 == 0
        assert (folder / "kill-worker").stat().st_mode & 0o077 == 0

    def test_that_others_may_open_is_refused(self, folder, supervisor):
        folder.mkdir(mode=0o777)
        folder.chmod(0o777)

        with pytest.raises(UpError, match="open to other users"):
            Control(folder, supervisor, lambda text: None)

    def test_lists_only_programs_that_the_supervisor_runs(self, ours, folder):
        assert control.state_of(folder).possible == ["kill-worker", "bank-down"]

    def test_offers_nothing_while_no_supervisor_runs(self, ours, folder):
        ours.close()

        assert control.state_of(folder).possible == []


@pytest.mark.processes
class TestTheSupervisor:
    """With real programs: the worker has a fault, the other has none."""

    def test_kills_a_program_and_starts_it_again(self, tmp_path):
        script = Path(__file__).with_name("dummy_stack.py")
        up = Running(
            [sys.executable, str(script), str(tmp_path), "worker:0:serve", "other:0:serve"],
            environment={"CONTROL": "yes"},
        )
        try:
            up.says("all ready")
            eventually(lambda: control.state_of(tmp_path / "control").possible, "it is open")
            journal = tmp_path / "journal"
            before = journal.read_text()
            pid = next(int(line.split()[2]) for line in before.splitlines() if " worker " in line)

            # Five deaths in a row would end everything. A fault is no death of that kind.
            for _ in range(2):
                control.request(tmp_path / "control", "kill-worker")
                eventually(
                    lambda: not (tmp_path / "control" / "kill-worker").exists(), "it is taken"
                )
            eventually(lambda: journal.read_text().count("start worker") == 2, "it starts again")

            assert not is_alive(pid)
            assert journal.read_text().count("start other") == 1
        finally:
            up.end_for_sure()
