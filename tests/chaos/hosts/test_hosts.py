"""A short run on nine hosts, with a fixed seed. Long runs are manual."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.chaos.stack import ROOT
from tests.chaos.test_chaos import chaos
from tests.cluster.network import NoNetwork, require

pytestmark = [pytest.mark.postgresql, pytest.mark.processes, pytest.mark.timeout(900)]


class TestTheShopOnNineHosts:
    def test_loses_no_effect_and_repeats_none_when_hosts_are_lost(self):
        """A web host before a COMMIT, the broker, a relay's host, a cut, PostgreSQL's primary."""
        try:
            require()
        except NoNetwork as error:
            pytest.skip(str(error))

        code, result, said = chaos("--cluster", "--seconds", "25", "--seed", "110", "--rate", "1.5")

        assert code == 0, said
        assert result["lost"] == result["duplicated"] == result["out_of_order"] == 0
        assert result["books_balanced"]
        assert result["restarts"] == 0
        assert min(result["orders"], result["failovers"], result["hosts_killed"]) > 0, said


class TestTheProgram:
    def test_without_root_says_one_sentence(self):
        program = (
            "import os, sys; os.geteuid = lambda: 1; sys.argv = ['chaos', '--cluster']\n"
            "from tests.chaos.__main__ import main; raise SystemExit(main())"
        )

        answer = subprocess.run(
            [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
        )

        assert answer.returncode == 2
        assert answer.stderr.startswith("Hosts are network namespaces: run this as root")
        assert answer.stderr.count("\n") == 1
