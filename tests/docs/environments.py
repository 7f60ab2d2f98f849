"""Virtual environments with pinned packages, apart from the environment of the tests.

`uv` takes packages from its cache. With a warm cache, an environment takes two seconds.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.docs.pages import ROOT

#: What is installed beside the packages of requirements.txt, and what it needs.
PEERS = ROOT / "tests" / "docs" / "peers.txt"
REQUIREMENTS = ROOT / "requirements.txt"


class Environment:
    """A virtual environment below `folder`, of the interpreter that runs the tests.

    `wheels` is a folder with the outbox's wheel. `django` overrides the release of
    requirements.txt, such as "6.1".
    """

    def __init__(self, folder: Path, *, wheels: Path, django: str = "") -> None:
        self.folder = folder / "venv"
        self._pins = folder / "pins.txt"
        self._wheels = wheels
        self._pins.write_text("\n".join(_pins(django)) + "\n")
        _uv("venv", "--quiet", "--python", sys.executable, str(self.folder))

    @property
    def programs(self) -> Path:
        """The folder of its programs."""
        return self.folder / "bin"

    def install(self, requirements: Sequence[str]) -> None:
        """Install requirements, at the releases of the pins."""
        constraint = ["--constraint", str(self._pins), "--find-links", str(self._wheels)]
        self._pip("install", *constraint, *requirements)

    def uninstall(self, names: Sequence[str]) -> None:
        """Remove packages. Those that they needed stay, as with pip."""
        self._pip("uninstall", *names)

    def _pip(self, verb: str, *arguments: str) -> None:
        python = str(self.programs / "python")
        _uv("pip", verb, "--quiet", "--system-certs", "--python", python, *arguments)


def _uv(*arguments: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "uv", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"uv {' '.join(arguments)}\n{done.stdout}"


def _pins(django: str) -> Iterator[str]:
    """Yield "name==release; marker" of the pinned packages."""
    for file in (REQUIREMENTS, PEERS):
        for line in file.read_text().splitlines():
            found = re.match(r"(?P<name>[a-z0-9.-]+)==[^ \\]+( ; [^\\]+)?", line)
            if found and not (django and found["name"] == "django"):
                yield found[0].strip()
    if django:
        yield f"django~={django}.0"
