"""The checks of hosts that may be lost: PostgreSQL, Redis, Sentinel and RabbitMQ."""

from __future__ import annotations

import socket
from copy import deepcopy
from typing import Any

import pytest
from django.core.checks import WARNING
from django.db import connections
from django.db.backends.postgresql.base import DatabaseWrapper

from outbox.checks.broker_hosts import check_broker_hosts
from outbox.checks.database_hosts import check_database_hosts
from outbox.lost_hosts import (
    IDLE_SECONDS,
    is_remote,
    postgresql_options,
    rabbitmq_options,
    redis_options,
    tcp_options,
)
from tests.outbox.celery_settings import set_celery

SENTINELS = "sentinel://:secret@one:26379/0;sentinel://:secret@two:26379/0"


def ids(found: list[Any]) -> list[str]:
    return [str(message.id).removeprefix("outbox.") for message in found]


class Database:
    """Settings of the database under examination, which is not connected to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        settings = deepcopy(connections["default"].settings_dict)
        settings |= {"HOST": "db.example.com", "PORT": "", "OPTIONS": postgresql_options()}
        self.settings: dict[str, Any] = settings
        one = DatabaseWrapper(settings, "default")
        monkeypatch.setattr(connections._connections, "default", one)  # type: ignore[attr-defined]

    def problems(self, **options: Any) -> list[str]:
        """The ids of messages with changed options; None removes one."""
        changed = {**self.settings["OPTIONS"], **options}
        self.settings["OPTIONS"] = {k: v for k, v in changed.items() if v is not None}
        return ids(check_database_hosts())


@pytest.fixture
def database(monkeypatch: pytest.MonkeyPatch) -> Database:
    monkeypatch.delenv("PGCONNECT_TIMEOUT", raising=False)
    monkeypatch.delenv("PGTARGETSESSIONATTRS", raising=False)
    return Database(monkeypatch)


class TestPostgreSQLOnAnotherHost:
    def test_with_all_options_has_no_problem(self, database: Database):
        assert database.problems() == []

    @pytest.mark.parametrize(
        ("options", "problems"),
        [
            ({"connect_timeout": None}, ["E080"]),
            ({"connect_timeout": 0}, ["E080"]),
            ({"connect_timeout": "5"}, []),
            ({"tcp_user_timeout": None}, ["E081"]),
            ({"tcp_user_timeout": 61_000}, ["E081"]),
            ({"keepalives": 0}, ["E082"]),
            ({"keepalives_idle": None}, ["E082"]),
            ({"keepalives_interval": None}, ["E082"]),
            ({"keepalives": None}, []),  # libpq's default is on
            ({"connect_timeout": None, "service": "shop"}, []),
        ],
    )
    def test_needs_each_option(self, database: Database, options, problems):
        assert database.problems(**options) == problems

    def test_by_default_hangs_in_each_way(self, database: Database):
        database.settings["OPTIONS"] = {}

        found = check_database_hosts()

        assert ids(found) == ["E080", "E081", "E082"]
        for message in found:
            assert 'DATABASES["default"]' in message.msg
            assert message.hint is not None
            assert "postgresql_options() of outbox.lost_hosts" in message.hint

    @pytest.mark.parametrize("host", ["", "localhost", "127.0.0.1", "::1", "/run/postgresql"])
    def test_is_not_this_one(self, database: Database, host: str):
        database.settings |= {"HOST": host, "OPTIONS": {}}

        assert database.problems() == []

    def test_may_have_its_time_limit_in_the_environment(
        self, database: Database, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setenv("PGCONNECT_TIMEOUT", "5")

        assert database.problems(connect_timeout=None) == []


class TestADatabaseThatTheOutboxDoesNotUse:
    def test_is_warned_of(self, database: Database, monkeypatch: pytest.MonkeyPatch):
        """Seen to fail: a release with the checks refused projects for a database of reports."""
        monkeypatch.setattr("outbox.databases.alias", lambda: "outbox")
        database.settings["OPTIONS"] = {}

        found = check_database_hosts()

        assert ids(found) == ["W080", "W081", "W082"]
        assert {message.level for message in found} == {WARNING}


class TestSeveralHosts:
    @pytest.fixture(autouse=True)
    def _two(self, database: Database) -> None:
        options = postgresql_options(several_hosts=True)
        database.settings |= {"HOST": "one,two", "PORT": "5432,5433", "OPTIONS": options}

    def test_are_no_problem_with_all_options(self, database: Database):
        assert database.problems() == []

    @pytest.mark.parametrize("given", [None, "any", "prefer-standby", "read-only"])
    def test_need_the_one_that_accepts_writes(self, database: Database, given: str | None):
        assert database.problems(target_session_attrs=given) == ["E083"]

    def test_count_if_one_of_them_is_this_one(self, database: Database):
        """Seen to fail while only other hosts were counted."""
        database.settings["HOST"] = "127.0.0.1,two"

        assert database.problems(target_session_attrs=None) == ["E083"]

    def test_are_connected_to_one_after_the_other(self, database: Database):
        assert database.problems(connect_timeout=31) == ["E080"]

    def test_of_a_reader_may_be_standbys(self, database: Database, monkeypatch):
        monkeypatch.setattr("outbox.databases.alias", lambda: "outbox")

        assert database.problems(target_session_attrs="any") == []


class Broker:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch
        self.set_kombu("5.7.0")
        self.set("broker_connection_timeout", 3)

    def set(self, name: str, value: object) -> None:
        set_celery(self._monkeypatch, name, value)

    def set_kombu(self, release: str) -> None:
        self._monkeypatch.setattr("outbox.checks.broker_hosts.version", lambda name: release)

    def problems(self, url: Any, options: dict[str, Any], **changed: Any) -> list[str]:
        """The ids of messages for a broker, with changed options; None removes one."""
        given = {k: v for k, v in {**options, **changed}.items() if v is not None}
        self.set("broker_url", url)
        self.set("broker_transport_options", given)
        return ids(check_broker_hosts())


@pytest.fixture
def broker(monkeypatch: pytest.MonkeyPatch) -> Broker:
    return Broker(monkeypatch)


class TestRedisOnAnotherHost:
    @pytest.mark.parametrize("scheme", ["redis", "rediss"])
    def test_with_all_options_has_no_problem(self, broker: Broker, scheme: str):
        assert broker.problems(f"{scheme}://:secret@one:6379/0", redis_options()) == []

    @pytest.mark.parametrize(
        ("options", "problems"),
        [
            ({"socket_timeout": None}, ["E084"]),
            ({"socket_connect_timeout": None}, []),  # it is socket_timeout then
            ({"socket_connect_timeout": 90}, ["E084"]),
            ({"socket_keepalive": False}, []),  # kombu's health checks remain
            ({"socket_keepalive": False, "health_check_interval": 0}, ["E085"]),
            ({"socket_keepalive_options": {}, "health_check_interval": 120}, ["E085"]),
        ],
    )
    def test_needs_time_limits_and_probes(self, broker: Broker, options, problems):
        assert broker.problems("redis://one:6379/0", redis_options(), **options) == problems

    def test_needs_probes_with_an_earlier_kombu(self, broker: Broker):
        broker.set_kombu("5.6.2")
        url = "redis://one:6379/0"

        assert broker.problems(url, redis_options(), socket_keepalive=None) == ["E085"]
        assert broker.problems(url, redis_options()) == []

    def test_can_have_probes_on_macos_with_an_earlier_kombu(
        self, broker: Broker, monkeypatch: pytest.MonkeyPatch
    ):
        """Seen to fail: macOS has another name for TCP_KEEPIDLE, so no settings were accepted."""
        monkeypatch.delattr(socket, "TCP_KEEPIDLE", raising=False)
        monkeypatch.setattr(socket, "TCP_KEEPALIVE", 16, raising=False)
        broker.set_kombu("5.6.2")

        assert tcp_options()[16] == IDLE_SECONDS
        assert broker.problems("redis://one:6379/0", redis_options()) == []

    def test_by_default_hangs(self, broker: Broker):
        assert broker.problems("redis://one:6379/0", {}) == ["E084", "E084"]

    @pytest.mark.parametrize("url", ["redis://localhost:6379/0", "redis+socket:///run/redis"])
    def test_is_not_this_one(self, broker: Broker, url: str):
        assert broker.problems(url, {}) == []


class TestSentinels:
    OPTIONS = redis_options(master_name="shop", sentinel_password="other")

    def test_with_all_options_have_no_problem(self, broker: Broker):
        assert broker.problems(SENTINELS, self.OPTIONS) == []

    def test_need_the_name_of_the_primary(self, broker: Broker):
        assert broker.problems(SENTINELS, self.OPTIONS, master_name=None) == ["E086"]

    def test_need_the_same_credentials_in_each_url(self, broker: Broker):
        urls = "sentinel://:secret@one:26379/0;sentinel://two:26379/0"

        assert broker.problems(urls, self.OPTIONS) == ["E087"]

    @pytest.mark.parametrize(
        "given", [None, {"password": "other"}, {"socket_timeout": 5}, {"retry": None}]
    )
    def test_are_asked_once(self, broker: Broker, given):
        assert broker.problems(SENTINELS, self.OPTIONS, sentinel_kwargs=given) == ["E088"]

    def test_on_this_host_lead_to_another_one(self, broker: Broker):
        assert broker.problems("sentinel://:s@127.0.0.1:1/0", {"master_name": "shop"}) == [
            "E084",
            "E084",
        ]


class TestRabbitMQOnAnotherHost:
    URL = "amqp://shop:secret@one//"
    URLS = f"{URL};amqp://shop:secret@two//"

    def test_with_all_options_has_no_problem(self, broker: Broker):
        assert broker.problems(self.URL, rabbitmq_options()) == []
        assert broker.problems(self.URLS, rabbitmq_options(nodes=2)) == []

    @pytest.mark.parametrize("seconds", [None, 0, 61])
    def test_needs_a_time_limit_for_connecting(self, broker: Broker, seconds):
        broker.set("broker_connection_timeout", seconds)

        assert broker.problems(self.URL, rabbitmq_options()) == ["E089"]

    @pytest.mark.parametrize("missing", ["read_timeout", "write_timeout"])
    def test_needs_a_time_limit_for_a_publication(self, broker: Broker, missing: str):
        assert broker.problems(self.URL, rabbitmq_options(), **{missing: None}) == ["E090"]

    def test_needs_time_to_connect_to_the_next_node(self, broker: Broker):
        assert broker.problems(self.URLS, rabbitmq_options()) == ["E091"]

    def test_may_have_a_list_of_urls(self, broker: Broker):
        assert broker.problems(self.URLS.split(";"), rabbitmq_options()) == ["E091"]


class TestABrokerWithSeparateUrlsToReadAndToWrite:
    """Seen to fail for each of several hosts while the URLs of both settings were counted."""

    @pytest.fixture(autouse=True)
    def _reader(self, broker: Broker) -> None:
        broker.set("broker_read_url", "amqp://reader:secret@one//")

    def test_has_one_node_for_each(self, broker: Broker):
        broker.set("broker_connection_timeout", 40)
        broker.set("broker_write_url", "amqp://writer:secret@one//")

        assert broker.problems("amqp://shop:secret@one//", rabbitmq_options()) == []

    def test_may_have_another_user_of_a_sentinel_for_each(self, broker: Broker):
        options = redis_options(master_name="shop")
        del options["sentinel_kwargs"]
        broker.set("broker_read_url", "sentinel://reader:secret@one:26379/0")
        broker.set("broker_write_url", "sentinel://writer:secret@one:26379/0")

        assert broker.problems("sentinel://:secret@one:26379/0", options) == []

    def test_has_each_problem_once(self, broker: Broker):
        broker.set("broker_write_url", TestRabbitMQOnAnotherHost.URLS)
        broker.set("broker_read_url", TestRabbitMQOnAnotherHost.URLS)

        problems = broker.problems(TestRabbitMQOnAnotherHost.URLS, rabbitmq_options())

        assert problems == ["E091"]

    def test_is_examined_by_the_urls_to_write_as_well(self, broker: Broker):
        broker.set("broker_write_url", TestRabbitMQOnAnotherHost.URLS)

        assert broker.problems("amqp://shop:secret@one//", rabbitmq_options()) == ["E091"]


class TestTheOptions:
    def test_of_tcp_are_those_of_the_platform(self):
        assert all(isinstance(name, int) for name in tcp_options())

    @pytest.mark.parametrize("host", ["db.example.com", "10.0.0.1", "2001:db8::1"])
    def test_are_for_other_hosts(self, host: str):
        assert is_remote(host)
