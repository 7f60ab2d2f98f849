"""Run pytest twice: `python -m tests [arguments of pytest]`.

The tests of the outbox and those of the shop have different settings (tests/plugin.py), so one
process cannot run both. Each option goes to both runs. Each file, folder and node id goes to the
run that it belongs to.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent
OUTBOX = TESTS / "outbox"
#: Options whose value is a path of a test.
_WITH_PATH = {"--ignore", "--deselect"}


def runs(arguments: Sequence[str]) -> Iterator[list[str]]:
    """Yield the arguments of each run of pytest."""
    options, of_outbox, of_shop = [], [], []
    for before, one in zip(["", *arguments], arguments, strict=False):
        path = Path(one.partition("::")[0]).resolve()
        if before in _WITH_PATH or one.startswith("-") or not path.is_relative_to(TESTS):
            options.append(one)
        elif path.is_relative_to(OUTBOX):
            of_outbox.append(one)
        else:
            of_shop.append(one)
    has_paths = of_outbox or of_shop
    if of_outbox or not has_paths:
        yield [*options, *(of_outbox or [str(OUTBOX)])]
    if of_shop or not has_paths:
        yield [*options, *of_shop]


def main(arguments: Sequence[str]) -> int:
    """Return 0 if a run passed and no run failed. A run without a selected test does not count."""
    ended = {
        subprocess.run([sys.executable, "-m", "pytest", *one], check=False).returncode
        for one in runs(arguments)
    }
    failed = ended - {pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED}
    return max(failed, default=min(ended))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
