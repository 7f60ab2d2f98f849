"""The shop on nine hosts: an order, and another one after hosts of each kind are lost."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.network import NoNetwork
from tests.cluster.postgresql import Pair
from tests.cluster.shop import ClusterShop, cluster_shop

pytestmark = [pytest.mark.postgresql, pytest.mark.processes, pytest.mark.timeout(600)]

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def shop() -> Iterator[ClusterShop]:
    try:
        with cluster_shop() as shop:
            yield shop
    except NoNetwork as error:
        pytest.skip(str(error))


class TestTheShopOnNineHosts:
    def test_completes_orders_before_and_after_it_loses_one_of_each_kind(self, shop: ClusterShop):
        first = shop.place(at="web-1")
        shop.wait_until_ready(first, at="web-2")
        pair = shop.databases
        assert isinstance(pair, Pair)
        pair.standby.wait_for("SELECT count(*) FROM outbox_event", shop.number_of_events())

        for name in ("web-1", "worker-1", "broker-1"):
            shop.network[name].kill()
        pair.lose_primary()
        shop.wait_until_open(at="web-2")
        second = shop.place(at="web-2")

        shop.wait_until_ready(second, at="web-2")
        assert shop.status(first, at="web-2") == "ready_to_ship"


class TestTheProgram:
    def test_without_root_says_one_sentence(self):
        program = (
            "import os; os.geteuid = lambda: 1\n"
            "from tests.cluster.__main__ import main; raise SystemExit(main([]))"
        )

        answer = subprocess.run(
            [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
        )

        assert answer.returncode == 1
        assert answer.stderr.startswith("Hosts are network namespaces: run this as root")
        assert answer.stderr.count("\n") == 1
