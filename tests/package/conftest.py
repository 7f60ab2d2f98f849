from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.package.built import Distribution

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def distribution(tmp_path_factory: pytest.TempPathFactory) -> Distribution:
    """Build sdist and wheel as `make package` does, and unpack the wheel as an installer does."""
    folder = tmp_path_factory.mktemp("distribution")
    build = [sys.executable, "-m", "uv", "build", "--quiet", "--no-build-isolation"]
    build += ["--python", sys.executable, "--out-dir", str(folder), "outbox"]
    subprocess.run(build, cwd=ROOT, check=True)
    installed = folder / "installed"
    install = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--no-deps", "--offline"]
    install += ["--target", str(installed), *map(str, folder.glob("*.whl"))]
    subprocess.run(install, cwd=ROOT, check=True)
    return Distribution(folder)
