"""A short run of the whole shop under faults, with a fixed seed. Long runs are manual.

The sabotage shows that a run can fail: a handler that stores its effect before its receipt.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from tests.chaos.brokers import NAMES, name_under_test
from tests.chaos.stack import ROOT
from tests.databases import kind_under_test

pytestmark = [pytest.mark.processes, pytest.mark.own_broker, pytest.mark.timeout(400)]


def chaos(*arguments: str) -> tuple[int, dict[str, Any], str]:
    """Run it; return its exit code, its last line, and all that it said."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.chaos", "--database", kind_under_test(), *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    said = done.stdout + done.stderr
    last = (done.stdout.splitlines() or [""])[-1]
    assert last.startswith("{"), said
    return done.returncode, json.loads(last), said


class TestTheShopUnderFaults:
    def test_loses_no_effect_and_repeats_none(self):
        code, result, said = chaos("--seconds", "20", "--seed", "7", "--rate", "1.5")

        assert code == 0, said
        assert result["lost"] == result["duplicated"] == result["out_of_order"] == 0
        assert result["books_balanced"]
        assert min(result["orders"], result["kills"], result["restarts"]) > 0, said


@pytest.mark.sqlite
@pytest.mark.skipif(name_under_test() != NAMES[0], reason="it would say the same with each broker")
class TestASabotagedShop:
    def test_is_detected(self):
        options = ("--seconds", "10", "--seed", "7", "--rate", "0.5", "--faults", "kill_relay")

        code, result, said = chaos(*options, "--sabotage", "effects_before_receipt")

        assert code == 1, said
        assert result["duplicated"] > 0
        assert "make chaos ARGS=" in said
