"""The supervisor of working processes: what it survives, and what its processes leave behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

from outbox.local import supervisor as supervisor_module
from outbox.local.process import WorkProcess
from outbox.local.supervisor import CannotWork, Supervisor
from tests.processes import eventually

pytestmark = [pytest.mark.once, pytest.mark.processes]

RUN = """
import os, signal, sys
from outbox.local import supervisor

supervisor._FIRST_WAIT = 0.01
{before}

def work():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # it ends by itself
    {work}
    os.kill(os.getppid(), signal.SIGTERM)
    {after}

is_clean = supervisor.Supervisor(1, work, stop_seconds=50).run()
if not is_clean:
    print(is_clean)
"""
#: Counts the starts of processes, in a pipe that all of them have.
COUNT_STARTS = """
reading, writing = os.pipe()
os.set_blocking(reading, False)
def starts():
    os.write(writing, b"1")
    seen = os.read(reading, 100)
    os.write(writing, seen)
    return len(seen)
"""
#: Lets the process wait until its supervisor stops it.
WAIT = "signal.pause()"


def supervise(
    work: str, *, shell: str = "", before: str = "", after: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run a supervisor whose process runs a statement, and then asks it to stop."""
    command = f'exec "$0" -c "$1" {shell}'
    code = RUN.format(work=work, before=before, after=after)
    return subprocess.run(
        ["/bin/sh", "-c", command, sys.executable, code],
        env={**os.environ, "PYTHONUNBUFFERED": ""},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


class TestAProcessOfASupervisor:
    def test_writes_what_it_has_printed(self):
        """Seen to fail without the flush: `os._exit` drops it if the output is a pipe."""
        assert supervise("print('printed', end='')").stdout == "printed"

    def test_works_without_a_standard_output(self, tmp_path: Path):
        """Seen to fail if the supervisor flushes an output that is closed."""
        done = supervise(f"open({str(tmp_path / 'worked')!r}, 'w').close()", shell=">&-")

        assert done.returncode == 0, done.stderr
        assert (tmp_path / "worked").exists()

    @pytest.mark.django_db
    def test_stops_if_its_supervisor_was_gone_before_it_began(self):
        """Seen to fail if it takes the parent that it finds for its supervisor."""
        ended = subprocess.Popen(["/bin/true"])
        ended.wait()

        assert WorkProcess(threads=1, stop_seconds=1, parent=ended.pid)._is_stop_requested()

    @pytest.mark.django_db
    def test_notices_a_signal_while_a_hand_back_waits_for_the_database(
        self, monkeypatch: pytest.MonkeyPatch
    ):
        """Seen to fail if one thread hands back and reads signals: it would not stop."""
        process = WorkProcess(threads=1, stop_seconds=1e6)
        waits, is_over = threading.Event(), threading.Event()

        def wait(*, seconds: float) -> None:
            waits.set()
            assert is_over.wait(60)

        transport = process._transport.each["default"]
        monkeypatch.setattr(transport, "hand_back_waiting", wait)
        monkeypatch.setattr(process, "_stop", process._stopping.set)
        threads = [
            threading.Thread(target=target, daemon=True)
            for target in (process._control, partial(process._hand_back_some, "default"))
        ]
        for thread in threads:
            thread.start()
        assert waits.wait(60)

        process._note_signal(signal.SIGTERM, None)

        assert process._stopping.wait(60)
        is_over.set()
        for thread in threads:
            thread.join(60)


class TestASupervisor:
    def test_gives_up_if_each_process_fails_soon_after_its_start(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ):
        """Seen to fail without the count: it starts processes for ever, and nothing reports it."""
        monkeypatch.setattr(supervisor_module, "_FIRST_WAIT", 0.01)

        starts, supervisor = tmp_path / "starts", os.getpid()

        def fail() -> None:
            with starts.open("a") as file:
                file.write("1")
            if len(starts.read_text()) > 15:  # it does not give up
                os.kill(supervisor, signal.SIGTERM)
            raise ValueError("no queue")

        with pytest.raises(CannotWork, match=r"failed 5 times.* log has the exceptions.* start"):
            Supervisor(2, fail, stop_seconds=5).run()

        assert len(starts.read_text()) >= 10

    @pytest.mark.parametrize("end", ["os.kill(os.getpid(), 9)", "return"])
    def test_goes_on_if_its_processes_are_killed_or_end(self, end: str):
        """A handler may kill its process. Seen to fail with each end counted as a failure."""
        done = supervise(f"if starts() < 8: {end}", before=COUNT_STARTS)

        assert done.returncode == 0, done.stderr

    def test_goes_on_while_one_of_its_processes_works(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ):
        """Seen to fail with the failures of one place enough."""
        monkeypatch.setattr(supervisor_module, "_FIRST_WAIT", 0.01)
        claimed, starts = tmp_path / "claimed", tmp_path / "starts"
        supervisor = os.getpid()

        def work_or_fail() -> None:
            with suppress(FileExistsError):
                claimed.touch(exist_ok=False)
                signal.pause()
            with starts.open("a") as file:
                file.write("1")
            if len(starts.read_text()) > 7:
                os.kill(supervisor, signal.SIGTERM)
                signal.pause()
            raise ValueError("no queue")

        assert Supervisor(2, work_or_fail, stop_seconds=5).run()

    def test_reports_a_process_that_ended_before_its_deliveries(self):
        """Seen to fail without the status: a stop that interrupts deliveries looks like any."""
        done = supervise("signal.signal(signal.SIGTERM, lambda *_: os._exit(1))", after=WAIT)

        assert (done.returncode, done.stdout) == (0, "False\n")

    def test_tries_again_if_no_process_can_be_started(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ):
        """Seen to fail without the `except`: a short lack of memory ends all its processes."""
        monkeypatch.setattr(supervisor_module, "_FIRST_WAIT", 0.01)
        fork: Callable[[], int] = os.fork
        tries: list[int] = []

        def fork_at_the_second_try() -> int:
            tries.append(1)
            if len(tries) == 1:
                raise BlockingIOError("Resource temporarily unavailable")
            return fork()

        monkeypatch.setattr(os, "fork", fork_at_the_second_try)
        stop_when_forked(tries)

        Supervisor(1, signal.pause, stop_seconds=5).run()

        assert len(tries) == 2
        assert "No working process could be started" in caplog.text


def stop_when_forked(tries: list[int]) -> None:
    def stop() -> None:
        eventually(lambda: len(tries) == 2, "it tries again")
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=stop, daemon=True).start()
