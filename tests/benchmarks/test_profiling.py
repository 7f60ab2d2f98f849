"""Profiles: stacks of py-spy, shares of packages, flame graphs, and the part of the page."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import Counter
from functools import partial
from pathlib import Path
from xml.etree import ElementTree

import psutil
import pytest

from benchmarks import page
from benchmarks.profiling import __main__ as command
from benchmarks.profiling import flames, sampling
from tests.processes import eventually

RAW = """\
process 7:"celery";run (celery/app.py:1);execute (django/db/utils.py:10);loads (json/init.py:3) 6
process 7:"celery";run (celery/app.py:2);emit (outbox/emission.py:20) 3
process 7:"celery";spin (spin.py:1) 1
"""
BUSY = "while True: sum(range(1000))\n"


class TestStacks:
    def test_are_the_frames_without_lines_and_processes(self):
        found = sampling.parsed(RAW)

        assert found["run (celery/app.py)", "emit (outbox/emission.py)"] == 3
        assert sum(found.values()) == 10

    def test_belong_to_the_package_of_their_innermost_known_frame(self):
        assert sampling.shares(sampling.parsed(RAW)) == {
            "Django": 0.6,
            "outbox": 0.3,
            sampling.OTHER: 0.1,
        }


@pytest.mark.processes
class TestARecording:
    def test_has_the_stacks_of_a_running_process(self, tmp_path: Path):
        program = tmp_path / "busy.py"
        program.write_text(BUSY)
        process = subprocess.Popen([sys.executable, str(program)])
        try:
            with sampling.sampled(process.pid) as stacks:
                worked = partial(seconds_of_work, process.pid)
                until = worked() + 1
                eventually(lambda: worked() > until, "it has worked for a second")
        except RuntimeError as error:
            pytest.skip(f"This user may not trace other processes: {error}")
        finally:
            process.kill()
            process.wait()

        assert any("busy.py" in frame for stack in stacks for frame in stack)


def seconds_of_work(pid: int) -> float:
    """Return the time of the processor that a process has had."""
    return float(psutil.Process(pid).cpu_times().user)


class TestAFlameGraph:
    STACKS: sampling.Stacks = Counter({("a", "b"): 3, ("a", "c <d>"): 1})

    def widths(self) -> dict[str, float]:
        text = flames.drawn(self.STACKS, label="test")
        found = re.findall(r"<title>(.*?): .*?</title><rect [^>]*width=\"([\d.]+)\"", text)
        return {name: float(width) for name, width in found}

    def test_has_a_box_for_each_function_as_wide_as_its_share(self):
        found = self.widths()

        assert found["all"] == found["a"] == pytest.approx(flames.WIDTH, abs=1)
        assert found["b"] == pytest.approx(flames.WIDTH * 0.75, abs=1)

    def test_escapes_names(self):
        assert "c &lt;d&gt;" in self.widths()

    def test_is_valid_xml_whatever_py_spy_has_read(self):
        stacks: sampling.Stacks = Counter({("a\x01b",): 1})

        ElementTree.fromstring(flames.drawn(stacks, label="test"))

    def test_leaves_out_boxes_that_are_too_narrow(self):
        stacks: sampling.Stacks = Counter({("a",): 100_000, ("b",): 1})

        assert "b: " not in flames.drawn(stacks, label="test")


class TestThePage:
    def test_equals_the_latest_profile(self):
        known = json.loads(command.RESULTS.read_text())

        assert page.part_of(page.PAGE.read_text(), "profile") == "\n".join(command.table(known))
