from __future__ import annotations

from pathlib import Path

import pytest

from .project import Project


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A project in a new current folder."""
    monkeypatch.chdir(tmp_path)
    return Project(tmp_path)
