"""Run Python programs, each in a fork of a process that has loaded Django.

Loading Django and the shop takes most of a short command's time.
"""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).resolve().parents[2]


class Forks:
    """Runs programs with one environment, from the project's folder.

    Its process ends with this one, since it reads from a pipe.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.chaos.forks"],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
            text=True,
        )

    def run(self, arguments: Sequence[str]) -> subprocess.CompletedProcess[str]:
        """Run Python with these arguments: a file, `-m` and a module, or `-c` and code."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(arguments) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        assert answer, f"{arguments} was not run."
        return subprocess.CompletedProcess(arguments, **json.loads(answer))

    def end(self) -> None:
        """End the process that has loaded Django."""
        self._process.communicate()


def _serve(requests: IO[str], answers: IO[str]) -> None:
    """Run the programs that are requested, one after the other."""
    for line in requests:
        arguments = json.loads(line)
        with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
            child = os.fork()
            if not child:
                with open(os.devnull) as nothing:
                    for source, target in ((nothing, 0), (output, 1), (errors, 2)):
                        os.dup2(source.fileno(), target)
                _become(arguments)
                return
            _pid, status = os.waitpid(child, 0)
            answer = {"returncode": os.waitstatus_to_exitcode(status)}
            answers.write(json.dumps({**answer, **_texts(stdout=output, stderr=errors)}) + "\n")
            answers.flush()


def _texts(**files: IO[bytes]) -> dict[str, str]:
    for file in files.values():
        file.seek(0)
    return {name: file.read().decode(errors="replace") for name, file in files.items()}


def _become(arguments: Sequence[str]) -> Any:
    """Run a program as `python` does, in this process."""
    first, *rest = arguments
    if first == "-m":
        sys.argv = rest
        return runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    if first == "-c":
        sys.argv = [first, *rest[1:]]
        return exec(compile(rest[0], "<string>", "exec"), {"__name__": "__main__"})
    sys.argv = list(arguments)
    return runpy.run_path(first, run_name="__main__")


if __name__ == "__main__":
    import django

    django.setup()
    # Programs write to standard output, so answers need another way.
    _serve(sys.stdin, os.fdopen(os.dup(1), "w"))
