"""The built distribution of the outbox, and programs that import it instead of this checkout."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Sequence
from email.message import Message
from email.parser import Parser
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def build(sources: Path, folder: Path) -> Distribution:
    """Build sdist and wheel as `make package` does, and unpack the wheel as an installer does."""
    command = [sys.executable, "-m", "uv", "build", "--quiet", "--no-build-isolation"]
    command += ["--python", sys.executable, "--out-dir", str(folder), str(sources)]
    subprocess.run(command, cwd=ROOT, check=True)
    install = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--no-deps", "--offline"]
    install += ["--target", str(folder / "installed"), *map(str, folder.glob("*.whl"))]
    subprocess.run(install, cwd=ROOT, check=True)
    return Distribution(folder)


class Distribution:
    """A wheel and an sdist in `folder`; the wheel is unpacked in `folder/installed`."""

    def __init__(self, folder: Path) -> None:
        (self.wheel,) = folder.glob("*.whl")
        (self.sdist,) = folder.glob("*.tar.gz")
        self.installed = folder / "installed"

    @property
    def files(self) -> set[str]:
        """The names in the wheel."""
        return set(zipfile.ZipFile(self.wheel).namelist())

    @property
    def sources(self) -> set[str]:
        """The names in the sdist, without its folder."""
        with tarfile.open(self.sdist) as archive:
            return {name.partition("/")[2] for name in archive.getnames()}

    @property
    def metadata(self) -> Message:
        """The core metadata of the wheel."""
        (name,) = (one for one in self.files if one.endswith(".dist-info/METADATA"))
        return Parser().parsestr(zipfile.ZipFile(self.wheel).read(name).decode())

    def run(
        self, arguments: Sequence[str], *, folder: Path, settings: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run Python in a folder of another project; `outbox` is the wheel's."""
        environment = {**os.environ, "PYTHONPATH": str(self.installed)}
        for name in ("DJANGO_SETTINGS_MODULE", "PYTEST_ADDOPTS", "PYTEST_XDIST_WORKER"):
            environment.pop(name, None)
        if settings:
            environment["DJANGO_SETTINGS_MODULE"] = settings
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
