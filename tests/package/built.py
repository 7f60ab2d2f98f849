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
