"""Programs in forks of a process that has loaded Django are processes of their own."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from tests.chaos import forks as module
from tests.chaos.forks import Forks, Started
from tests.processes import eventually
from tests.threads import in_thread

pytestmark = pytest.mark.once

SETS_UP = "import django.apps, os; assert django.apps.apps.ready; "
SAYS = "print('it runs', flush=True); "
WAITS = "import time; time.sleep(600)"


@pytest.fixture(scope="module")
def forks() -> Iterator[Forks]:
    forks = Forks(os.environ)
    yield forks
    forks.end()


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "program.log"


def started(forks: Forks, log: Path, code: str) -> Started:
    """Start code, and wait until it runs."""
    program = forks.start(["-c", SETS_UP + SAYS + code], log=log)
    eventually(lambda: log.exists() and "it runs" in log.read_text(), "it runs")
    return program


class TestAStartedProgram:
    def test_ends_with_its_exit_code(self, forks: Forks, log: Path):
        program = started(forks, log, "raise SystemExit(7)")

        assert program.wait() == program.poll() == program.returncode == 7

    def test_appends_its_errors_to_its_log(self, forks: Forks, log: Path):
        log.write_text("earlier\n")

        assert started(forks, log, "raise KeyError('points')").wait() == 1

        assert log.read_text().startswith("earlier\n")
        assert log.read_text().endswith("KeyError: 'points'\n")

    def test_runs_beside_other_requests_until_a_signal_ends_it(self, forks: Forks, log: Path):
        program = started(forks, log, WAITS)

        assert forks.run(["-c", SAYS]).stdout == "it runs\n"
        assert program.poll() is None
        program.terminate()
        assert program.wait() == -signal.SIGTERM

    def test_starts_beside_one_that_runs_to_its_end(self, forks: Forks, log: Path):
        waits = f"import time, os\nwhile not os.path.exists({str(log)!r}): time.sleep(0.01)"
        result = in_thread(lambda: forks.run(["-c", waits]))

        forks.start(["-c", SAYS], log=log)

        ended = result()
        assert isinstance(ended, CompletedProcess)
        assert ended.returncode == 0

    def test_is_missed_if_its_exit_code_is_not_stored(self, tmp_path: Path, monkeypatch):
        monkeypatch.setattr(module, "_STORED_WITHIN", 0.0)
        with subprocess.Popen(["true"]) as ended:
            pass
        program = Started(ended.pid, tmp_path / "status")

        with pytest.raises(AssertionError, match="status is missing"):
            program.wait()

    def test_is_killed_with_its_children(self, forks: Forks, log: Path):
        program = started(forks, log, f"os.fork(); print('twice', flush=True); {WAITS}")
        eventually(lambda: log.read_text().count("twice") == 2, "it has a child")

        os.killpg(program.pid, signal.SIGKILL)

        assert program.wait() == -signal.SIGKILL
