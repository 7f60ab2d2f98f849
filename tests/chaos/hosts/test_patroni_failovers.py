"""Failovers by Patroni, on five hosts without the shop: `make test-patroni`.

They take a minute or two, so no other target runs them.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest

from tests.chaos.hosts.patroni import PatroniDatabases, patroni_databases
from tests.cluster.network import Host, Network, NoNetwork, require
from tests.cluster.patroni_programs import NoPatroni

pytestmark = [
    pytest.mark.once,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(
        "TEST_PATRONI" not in os.environ, reason="Only `make test-patroni` fails over by Patroni."
    ),
]

ETCD = ("etcd-1", "etcd-2", "etcd-3")
#: The columns of the shop that tests.chaos.hosts.loss reads.
TABLES = """
CREATE TABLE orders_order (id text, email text, status text, tracking_number text);
CREATE TABLE orders_orderhistory (order_id text, to_status text);
CREATE TABLE orders_refundrequest (order_id text, id int);
CREATE TABLE inventory_reservation (order_id text, status text);
CREATE TABLE payments_payment (order_id text, status text, refund_amount int);
CREATE TABLE notifications_email (order_id text, recipient text, message_id text, sent_at text);
CREATE TABLE outbox_event (key text, id int, seq int);
CREATE TABLE outbox_delivery (event_id int, subscription_id int, state text);
CREATE TABLE outbox_subscription (id int, handler text);
"""


class Site:
    """Two members of Patroni, and a table of orders."""

    def __init__(self, network: Network, databases: PatroniDatabases) -> None:
        self.network, self.databases = network, databases

    def execute(self, statement: str) -> None:
        """Run a statement where a process of the shop would: at the member that takes writes."""
        with psycopg.connect(self.databases.patient_url, autocommit=True) as connection:
            connection.execute(statement.encode())

    def place(self) -> str:
        order = uuid4().hex
        self.execute(f"INSERT INTO orders_order VALUES ('{order}', '', 'new', '')")
        return order

    def cut_from_etcd(self, host: Host) -> None:
        for name in ETCD:
            host.cut_to(self.network[name])

    def orders(self) -> set[str]:
        rows = self.databases.primary.query("SELECT id FROM orders_order")
        return {str(order) for (order,) in rows}


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with ExitStack() as cleanup:
        folder = Path(cleanup.enter_context(tempfile.TemporaryDirectory(prefix="shop-patroni-")))
        folder.chmod(0o711)  # Patroni does not run as root
        try:
            require()
            network = cleanup.enter_context(Network(("db-1", "db-2", *ETCD)))
            hosts, of_etcd = [network["db-1"], network["db-2"]], [network[one] for one in ETCD]
            pair = cleanup.enter_context(patroni_databases(network, hosts, of_etcd, folder))
        except (NoNetwork, NoPatroni) as error:
            pytest.skip(str(error))
        site = Site(network, pair)
        site.execute(TABLES)
        yield site


class TestAFailoverByPatroni:
    def test_to_an_asynchronous_standby_loses_exactly_what_it_lacks(self, site: Site):
        kept, lost = site.place(), site.databases.ready_primary()
        site.databases.replicate(synchronously=False)
        site.databases.stop_replication()
        missing = {site.place(), site.place()}

        site.databases.lose_with_commits(lost)
        later = site.place()
        site.databases.take_back(lost, synchronously=False)

        assert site.databases.losses[-1].orders == missing
        assert site.orders() == {kept, later}

    def test_of_a_primary_that_reaches_no_etcd_leaves_one_primary(self, site: Site):
        order, lost = site.place(), site.databases.ready_primary()

        site.databases.lose(lost, lambda: site.cut_from_etcd(lost.host))
        later = site.place()
        site.databases.take_back(lost)

        assert site.databases.overlaps == 0
        assert {order, later} <= site.orders()
        assert site.databases.primary is not lost

    def test_on_demand_goes_on_without_one_member_of_etcd(self, site: Site):
        site.network["etcd-1"].kill()
        order, before = site.place(), site.databases.ready_primary()

        site.databases.switch_over(lambda: None)
        site.databases.restart(site.network["etcd-1"])

        assert order in site.orders()
        assert site.databases.primary is not before
