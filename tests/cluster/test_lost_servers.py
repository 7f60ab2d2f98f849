"""A host is cut off, and its client notices it by the options of `outbox.lost_hosts`.

The client is on a host of its own, whose link is cut: no packet leaves it, and no error arrives.
Without an option its test ends by the time limit of pytest.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path
from queue import Empty
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest
import redis
from kombu import Connection
from kombu.exceptions import OperationalError

from outbox.lost_hosts import postgresql_options, rabbitmq_options, redis_options
from outbox.transports.celery_settings import connect_once
from tests.cluster.network import Host, Network
from tests.cluster.postgresql import allow
from tests.databases import own_postgresql
from tests.servers.brokers import RabbitMQServer, ValkeyServer
from tests.servers.server import ServerMissing
from tests.standby import standby_of

pytestmark = pytest.mark.processes

CEILING = 60.0


def wait_until(condition: Callable[[], object], what: str) -> None:
    end = time.monotonic() + CEILING
    while not condition():
        assert time.monotonic() < end, f"Never came: {what}"
        time.sleep(0.05)


def from_host(host: Host, connect: Callable[[], Any]) -> Any:
    """Connect from a host. The connection stays there."""
    with host.entered():
        return connect()


class Primary:
    """A PostgreSQL that the hosts reach."""

    def __init__(self, url: str, network: Network) -> None:
        self.url = url
        at = urlsplit(url)
        login = at.netloc.rpartition("@")[0]
        self._path = urlunsplit(at._replace(netloc=f"{login}@PLACES"))
        self.place = f"{network.address}:{at.port}"
        allow(url, network)

    def connect(self, *places: str) -> psycopg.Connection:
        """Connect to the first of these places that accepts writes."""
        options = postgresql_options(several_hosts=len(places) > 1)
        url = self._path.replace("PLACES", ",".join(places or [self.place]))
        return psycopg.connect(url, autocommit=True, **options)

    def is_running(self, statement: str) -> bool:
        running = "SELECT count(*) FROM pg_stat_activity WHERE query = %s AND state = 'active'"
        with psycopg.connect(self.url, autocommit=True) as connection:
            return connection.execute(running, [statement]).fetchone() == (1,)


@pytest.fixture
def primary(network: Network) -> Iterator[Primary]:
    settings = {"listen_addresses": f"127.0.0.1,{network.address}", "fsync": "off"}
    with own_postgresql(settings) as server:
        yield Primary(server.start(), network)


@pytest.mark.postgresql
class TestALostPostgreSQL:
    WAITING = "SELECT pg_sleep(600)"

    def test_ends_a_statement_an_answer_and_a_connection(self, primary: Primary, network: Network):
        one = network["one"]
        sends = from_host(one, primary.connect)
        waits = from_host(one, primary.connect)
        with ThreadPoolExecutor() as threads, sends, waits:
            waiting = threads.submit(waits.execute, self.WAITING)
            wait_until(lambda: primary.is_running(self.WAITING), "it waits for an answer")
            one.cut()

            sending = threads.submit(sends.execute, "SELECT 1")
            connecting = threads.submit(from_host, one, primary.connect)

            for one_of_them in (waiting, sending, connecting):
                with pytest.raises(psycopg.OperationalError):
                    one_of_them.result()

    def test_is_passed_over_for_one_that_accepts_writes(self, primary: Primary, network: Network):
        gone = network["two"]
        gone.cut()
        with standby_of(primary.url) as standby:
            at = urlsplit(standby.url)
            with closing(primary.connect(f"{gone.address}:5432", f"127.0.0.1:{at.port}",
                                         primary.place)) as connection:  # fmt: skip
                in_recovery = connection.execute("SELECT pg_is_in_recovery()").fetchone()

            assert in_recovery == (False,)


class Queue:
    """A connection of kombu from a host, with a queue that it publishes to and reads."""

    def __init__(self, host: Host, url: str, options: dict[str, Any]) -> None:
        self._host = host
        self._connection = Connection(url, connect_timeout=3, transport_options=options)

    def __enter__(self) -> Queue:
        with self._host.entered():
            self._queue = self._connection.SimpleQueue("lost-hosts")
        return self

    def __exit__(self, *_error: object) -> None:
        self._connection.collect()

    def publish(self) -> None:
        self._queue.put({}, retry=False)

    def receive(self) -> object:
        """Wait for a message, without a limit."""
        while True:
            with suppress(Empty):  # the time limit of one answer
                return self._queue.get(timeout=None)


def assert_noticed(host: Host, url: str, options: dict[str, Any]) -> None:
    """Cut a host off while it waits for a message; it then publishes another one."""
    with (
        ThreadPoolExecutor() as threads,
        Queue(host, url, options) as sends,
        Queue(host, url, options) as waits,
    ):
        sends.publish()
        waits.receive()
        waiting = threads.submit(waits.receive)
        time.sleep(1)  # the request for a message is acknowledged
        host.cut()
        sending = threads.submit(sends.publish)
        for one_of_them in (sending, waiting):
            with pytest.raises((OSError, OperationalError, redis.RedisError)):
                one_of_them.result()


@pytest.mark.once
class TestALostRedis:
    def test_ends_a_publication_and_a_wait_for_messages(self, network: Network, tmp_path: Path):
        with ValkeyServer(tmp_path / "valkey") as valkey:
            with redis.Redis.from_url(valkey.url) as client:
                client.config_set("bind", f"127.0.0.1 {network.address}")
            url = valkey.url.replace("127.0.0.1", network.address)

            assert_noticed(network["one"], url, redis_options())


@pytest.mark.once
class TestALostRabbitMQ:
    @pytest.fixture
    def url(self, network: Network, tmp_path: Path) -> Iterator[str]:
        try:
            server = RabbitMQServer(tmp_path / "rabbitmq")
        except ServerMissing as error:
            pytest.skip(str(error))
        if server.given:
            pytest.skip(f"{server.given} names a RabbitMQ, which other hosts may not reach.")
        at = urlsplit(server.url)
        with (server.folder / "rabbitmq.conf").open("a") as configuration:
            configuration.write(f"listeners.tcp.2 = {network.address}:{at.port}\n")
            configuration.write("loopback_users = none\n")
        with server:
            yield server.url.replace("127.0.0.1", network.address)

    def test_ends_a_publication_and_is_passed_over(self, network: Network, url: str):
        one, two = network["one"], network["two"]
        assert_noticed(one, url, rabbitmq_options())

        gone = f"amqp://guest:guest@{one.address}:5672//"
        with Queue(two, f"{gone};{url}", rabbitmq_options(nodes=2)) as queue:
            queue.publish()
        with Connection(f"{gone};{url}", connect_timeout=3) as connection:
            connect_once(connection)
