"""How `python -m tests` divides its arguments between two runs of pytest."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.__main__ import OUTBOX, runs

OPTIONS = ["-n", "3", "-k", "orders", "--ignore", "tests/browser"]


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        ([], [[*OPTIONS, str(OUTBOX)], OPTIONS]),
        (["tests/outbox/relay"], [[*OPTIONS, "tests/outbox/relay"]]),
        (["tests/orders/test_api.py::TestX"], [[*OPTIONS, "tests/orders/test_api.py::TestX"]]),
        (
            ["tests/orders", "tests/outbox/relay"],
            [[*OPTIONS, "tests/outbox/relay"], [*OPTIONS, "tests/orders"]],
        ),
    ],
    ids=["no path", "of the outbox", "of the shop", "both"],
)
def test_each_path_goes_to_its_run(
    paths: list[str], expected: list[list[str]], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(Path(__file__).parent.parent)

    assert list(runs([*OPTIONS, *paths])) == expected
