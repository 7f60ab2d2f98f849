"""Run tests in a copy of the tree, with or without a mutant, and judge their results."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from xml.etree import ElementTree

from tests.databases import postgresql_url
from tests.mutants.mutant import SQLITE, DoesNotApply, Mutant

ROOT = Path(__file__).resolve().parents[2]
TEST_SECONDS = 120  # for one test, under pytest-timeout
RUN_SECONDS = 900  # for all tests of a run, in case that one does not work

_NOT_COPIED = shutil.ignore_patterns(".*", "__pycache__", "node_modules", "*.sqlite3*")


class Verdict(StrEnum):
    """The result of a mutant. Only the first one is a success."""

    KILLED = "killed"
    SURVIVED = "survived"
    TIMED_OUT = "timed out"
    ERROR = "error"


class Report(StrEnum):
    """How one test ended."""

    PASSED = "passed"
    FAILED = "failed"
    TIMED_OUT = "timed out"
    BROKEN = "broken"  # in a fixture, or it could not be collected


@dataclass(frozen=True)
class Outcome:
    """A mutant's verdict, why, and how long it took."""

    mutant: Mutant
    verdict: Verdict
    why: str = ""
    seconds: float = 0


def try_mutant(mutant: Mutant) -> Outcome:
    """Apply a mutant in a copy, run the tests that must notice, and judge."""
    began = time.monotonic()
    try:
        with copied_tree() as copy:
            for edit in mutant.edits:
                edit.apply(copy)
            said, tail = run_tests(mutant.noticed_by, database=mutant.database, tree=copy)
    except (DoesNotApply, SyntaxError) as error:
        return Outcome(mutant, Verdict.ERROR, str(error))
    verdict, why = judge(mutant, said)
    why = f"{why}\n{tail}" if verdict is Verdict.ERROR else why
    return Outcome(mutant, verdict, why, time.monotonic() - began)


def judge(mutant: Mutant, said: dict[str, Report]) -> tuple[Verdict, str]:
    """Return a verdict, and the tests that caused it if it is not `KILLED`."""
    noticed = {Report.FAILED, Report.TIMED_OUT} if mutant.hangs else {Report.FAILED}
    for how, verdict in (
        (Report.BROKEN, Verdict.ERROR),
        (Report.PASSED, Verdict.SURVIVED),
        (Report.TIMED_OUT, Verdict.TIMED_OUT),
    ):
        blamed = [test for test in mutant.noticed_by if said[test] is how not in noticed]
        if blamed:
            return verdict, f"{how}: {', '.join(blamed)}"
    return Verdict.KILLED, ""


def baseline(tests: Collection[str], *, database: str) -> tuple[list[str], str]:
    """Return the tests that fail without a mutant, and the end of pytest's output."""
    with copied_tree() as copy:
        said, tail = run_tests(tests, database=database, tree=copy)
    return [test for test, how in said.items() if how is not Report.PASSED], tail


def run_tests(
    tests: Collection[str], *, database: str, tree: Path
) -> tuple[dict[str, Report], str]:
    """Run tests by their ids in a tree; return how each ended, and the end of pytest's output."""
    said: dict[str, Report] = {}
    tails = []
    # The tests of the outbox have settings of their own (tests/plugin.py).
    of_outbox = {test for test in tests if test.startswith("tests/outbox/")}
    for ids in filter(None, (of_outbox, {*tests} - of_outbox)):
        some, tail = _run_alike(sorted(ids), database=database, tree=tree)
        said |= some
        tails.append(tail)
    return said, "\n".join(tails)


def _run_alike(tests: list[str], *, database: str, tree: Path) -> tuple[dict[str, Report], str]:
    report = tree / "report.xml"
    report.unlink(missing_ok=True)
    command = [
        *(sys.executable, "-m", "pytest", "-q", "--tb=line", "-p", "no:cacheprovider"),
        *(f"--junitxml={report}", f"--timeout={TEST_SECONDS}", *tests),
    ]
    output = _run(command, cwd=tree, env=_environment(database, name=tree.name))
    cases = _cases(report) if report.exists() else []
    return {test: _report_of(test, cases) for test in tests}, output[-2000:]


@contextmanager
def copied_tree() -> Iterator[Path]:
    """Yield a copy of the project's files; nothing that a test does there touches the original."""
    with tempfile.TemporaryDirectory(prefix="mutant-") as folder:
        copy = Path(folder) / Path(folder).name.replace("-", "_")
        shutil.copytree(ROOT, copy, ignore=_NOT_COPIED)
        yield copy


def _environment(database: str, *, name: str) -> dict[str, str]:
    # No compiled files: a stale one would hide an edit of the same length in the same second.
    environment = {**os.environ, "TEST_DATABASE": database, "PYTHONDONTWRITEBYTECODE": "1"}
    environment.pop("DATABASE_URL", None)
    if database != SQLITE:  # a database for each run, so that several may run at once
        environment["DATABASE_URL"] = postgresql_url().rpartition("/")[0] + f"/{name.lower()}"
    return environment


def _run(command: list[str], *, cwd: Path, env: dict[str, str]) -> str:
    with subprocess.Popen(
        command,
        cwd=cwd,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            return process.communicate(timeout=RUN_SECONDS)[0]
        except subprocess.TimeoutExpired:
            return ""
        finally:  # with whatever the tests have started
            _kill_group(process.pid)


def _kill_group(pid: int) -> None:
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def _cases(report: Path) -> list[tuple[str, Report]]:
    """Return each test that ran, as class name and name, and how it ended."""
    tree = ElementTree.parse(report)
    return [
        (f"{case.get('classname')}.{case.get('name')}", _how(case))
        for case in tree.iter("testcase")
    ]


def _how(case: ElementTree.Element) -> Report:
    if case.find("error") is not None or case.find("skipped") is not None:
        return Report.BROKEN
    failure = case.find("failure")
    if failure is None:
        return Report.PASSED
    return Report.TIMED_OUT if "Timeout" in (failure.get("message") or "")[:20] else Report.FAILED


def _report_of(test: str, cases: list[tuple[str, Report]]) -> Report:
    """Return how a test ended; one with parameters fails if it fails with any of them."""
    name = test.replace(".py::", ".").replace("/", ".").replace("::", ".")
    mine = {how for case, how in cases if case == name or case.startswith(f"{name}[")}
    if not mine:
        return Report.BROKEN
    return next(
        how
        for how in (Report.BROKEN, Report.FAILED, Report.TIMED_OUT, Report.PASSED)
        if how in mine
    )
