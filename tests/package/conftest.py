from __future__ import annotations

import pytest

from tests.package.built import ROOT, Distribution, build


@pytest.fixture(scope="session")
def distribution(tmp_path_factory: pytest.TempPathFactory) -> Distribution:
    """The distribution of this checkout."""
    return build(ROOT / "outbox", tmp_path_factory.mktemp("distribution"))
