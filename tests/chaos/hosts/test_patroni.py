"""The faults of a run with Patroni. `make chaos ARGS="--cluster --patroni"` runs them."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.chaos.hosts.faults import HOSTS
from tests.chaos.hosts.patroni_faults import PATRONI
from tests.chaos.stack import ROOT

pytestmark = pytest.mark.once


class TestTheFaultsWithPatroni:
    def test_are_those_of_the_other_hosts_and_of_its_own_primary(self):
        assert PATRONI.groups.keys() == HOSTS.groups.keys()
        assert set(PATRONI.groups["database"]).isdisjoint(HOSTS.groups["database"])
        for group in PATRONI.groups.keys() - {"database"}:
            assert PATRONI.groups[group] == HOSTS.groups[group]


class TestTheProgram:
    def test_refuses_patroni_without_several_hosts(self):
        answer = subprocess.run(
            [sys.executable, "-m", "tests.chaos", "--patroni"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )

        assert answer.returncode == 2
        assert answer.stderr.endswith("--patroni needs --cluster.\n")
