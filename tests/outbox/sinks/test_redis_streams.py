"""The Redis sink against a real Valkey."""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from itertools import count
from pathlib import Path

import pytest
import redis
from django.core.exceptions import ImproperlyConfigured

from outbox.receipt import PermanentFailure
from outbox.sinks import redis_streams
from outbox.sinks.base import SinkUnavailable
from outbox.sinks.redis_streams import EntryRefused, RedisStreamSink
from outbox.testing import SinkContract, StoredMessage
from tests.closed_port import port_of_nobody
from tests.outbox.sinks.messages import message, publish
from tests.processes import eventually
from tests.servers.brokers import ValkeyServer

pytestmark = pytest.mark.once

_numbers = count()


@pytest.fixture
def topic() -> str:
    return f"freight.ParcelSent{next(_numbers)}"


@pytest.fixture
def sink(valkey: ValkeyServer) -> Iterator[RedisStreamSink]:
    sink = RedisStreamSink("parcels", {"url": valkey.url, "max_bytes": 100_000})
    yield sink
    sink.close()


@pytest.fixture
def client(valkey: ValkeyServer) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(valkey.url, decode_responses=True) as client:
        yield client


@contextmanager
def configured(client: redis.Redis, name: str, value: str | int) -> Iterator[None]:
    """Change a setting of the server for a block."""
    before = str(client.config_get(name)[name])
    client.config_set(name, value)
    try:
        yield
    finally:
        client.config_set(name, before)


class TestRedisStreamSink(SinkContract):
    keeps_keys = False
    knows_topics = False  # XADD creates a stream

    @pytest.fixture
    def sink(self, sink: RedisStreamSink) -> RedisStreamSink:
        return sink

    @pytest.fixture
    def topic(self, topic: str) -> str:
        return topic

    @pytest.fixture
    def received(self, valkey: ValkeyServer) -> Callable[[str], Sequence[StoredMessage]]:
        def read(topic: str) -> list[StoredMessage]:
            with redis.Redis.from_url(valkey.url) as client:
                entries = [
                    {name.decode(): value for name, value in fields.items()}
                    for _, fields in client.xrange(topic)
                ]
            return [
                StoredMessage(
                    "",
                    {name: value.decode() for name, value in one.items() if name != "data"},
                    one["data"],
                    "",
                )
                for one in entries
            ]

        return read

    @pytest.fixture
    def outage(self, valkey: ValkeyServer) -> Callable[[], AbstractContextManager[object]]:
        return valkey.down


class TestAnEntry:
    def test_has_the_attributes_and_the_data_as_fields(self, sink, client, topic):
        sent = message(topic, b'{"weight": 3}', headers={"id": "1", "type": "freight.ParcelSent"})

        assert publish(sink, sent) == [None]

        ((_, fields),) = client.xrange(topic)
        assert fields == {
            "id": "1",
            "type": "freight.ParcelSent",
            "datacontenttype": "application/json",
            "data": '{"weight": 3}',
        }

    def test_in_structured_encoding_keeps_the_content_type(self, sink, client, topic):
        structured = "application/cloudevents+json"

        assert publish(sink, message(topic, headers={"content-type": structured})) == [None]

        ((_, fields),) = client.xrange(topic)
        assert fields == {"content-type": structured, "data": "{}"}

    def test_is_written_again_with_the_same_id(self, sink, client, topic):
        """Redis does not discard it. Consumers do, by the field id."""
        sent = message(topic, headers={"id": "1"})

        assert publish(sink, sent) + publish(sink, sent) == [None, None]

        assert [fields["id"] for _, fields in client.xrange(topic)] == ["1", "1"]


class TestAStreamWithALimit:
    def test_is_trimmed_approximately(self, valkey, client, topic):
        sink = RedisStreamSink("parcels", {"url": valkey.url, "maxlen": 50})

        for _ in range(10):
            assert publish(sink, *[message(topic) for _ in range(100)]) == [None] * 100

        assert 50 <= client.xlen(topic) < 1000


class TestARefusedEntry:
    def test_leaves_the_others_of_its_call(self, sink, client, topic):
        client.set(f"{topic}:text", "1")

        results = publish(sink, message(topic), message(f"{topic}:text"), message(topic))

        assert [type(one) for one in results] == [type(None), EntryRefused, type(None)]
        assert client.xlen(topic) == 2

    def test_by_its_size_is_refused_for_good(self, sink, client, topic):
        results = publish(sink, message(topic, b"x" * 100_001), message(topic))

        assert [type(one) for one in results] == [PermanentFailure, type(None)]
        assert client.xlen(topic) == 1


class TestAServerThatStops:
    @pytest.mark.processes
    def test_answering_is_unavailable_within_the_time_limit(self, valkey, sink, topic):
        """Connected before, and connecting during it: neither waits for ever."""
        assert publish(sink, message(topic)) == [None]

        with valkey.frozen():
            connected = publish(sink, message(topic), message(topic), timeout=1)
            connecting = publish(sink, message(topic), timeout=1)

        assert [type(one) for one in (*connected, *connecting)] == [SinkUnavailable] * 3
        assert publish(sink, message(topic)) == [None]

    def test_a_connection_causes_no_failed_delivery(self, valkey, sink, topic):
        assert publish(sink, message(topic)) == [None]
        valkey.broker.cut_clients()

        assert publish(sink, message(topic)) == [None]

    def test_taking_entries_is_unavailable(self, sink, client, topic):
        with configured(client, "maxmemory", 1):
            results = publish(sink, message(topic), message(topic))

        assert [type(one) for one in results] == [SinkUnavailable] * 2
        assert "OOM" in str(results[0])
        assert publish(sink, message(topic)) == [None]

    def test_being_a_primary_is_unavailable(self, sink, client, topic):
        assert publish(sink, message(topic)) == [None]
        connection = sink._connection
        client.replicaof("127.0.0.1", port_of_nobody())
        try:
            (result,) = publish(sink, message(topic))
            problems = list(sink.check([topic], timeout=30))
        finally:
            client.replicaof("NO", "ONE")

        assert isinstance(result, SinkUnavailable)
        assert "READONLY" in str(result)
        assert sink._connection is not connection
        assert "is a replica. Set the address of the primary." in problems[0]

    def test_before_all_answers_keeps_those_that_came(self, sink, client, topic, monkeypatch):
        """The connection breaks after the first of three answers."""
        answer, answers = RedisStreamSink._answer, count(1)

        def break_after_one(self, connection, deadline):
            if next(answers) > 1:
                raise redis.ConnectionError("Connection closed by server.")
            return answer(self, connection, deadline)

        monkeypatch.setattr(RedisStreamSink, "_answer", break_after_one)

        results = publish(sink, *[message(topic) for _ in range(3)])

        assert [type(one) for one in results] == [type(None), SinkUnavailable, SinkUnavailable]


@pytest.mark.servers
class TestAServerWithoutHello:
    """An old Redis, or a proxy."""

    @pytest.fixture
    def url(self, tmp_path: Path) -> Iterator[str]:
        """The address of a server that also has users without a password."""
        server = ValkeyServer(tmp_path)
        server.command = [*server.command, "--rename-command", "HELLO", ""]
        server.broker.url = f"{server.url}?protocol=2"  # of the client that waits for its start
        with server, redis.Redis.from_url(server.broker.url) as client:
            everything = {"keys": ["*"], "commands": ["+@all"]}
            client.acl_setuser("parcels", enabled=True, passwords="+hunter2", **everything)
            client.acl_setuser("default", enabled=True, nopass=True, **everything)
            yield f"redis://parcels:hunter2@{server.url.partition('@')[2]}"

    def test_stores_entries(self, url, topic):
        sink = RedisStreamSink("parcels", {"url": url})

        assert publish(sink, message(topic)) == [None]
        assert sink.check([topic], timeout=30) == []

    def test_is_unavailable_to_a_client_that_demands_it_without_its_password(self, url, topic):
        """Redis quotes the arguments of the unknown command."""
        sink = RedisStreamSink("parcels", {"url": url, "protocol": 3})

        (result,) = publish(sink, message(topic))
        (problem,) = sink.check([topic], timeout=30)

        assert isinstance(result, SinkUnavailable)
        assert "unknown command 'HELLO'." in str(result)
        shown = "".join(traceback.format_exception(result))
        assert "hunter2" not in shown + problem


class TestCopies:
    def test_on_too_few_replicas_are_an_error(self, valkey, topic):
        sink = RedisStreamSink("parcels", {"url": valkey.url, "wait_replicas": 1})

        (result,) = publish(sink, message(topic), timeout=3)

        assert isinstance(result, SinkUnavailable)
        assert "0 of 1 replicas" in str(result)

    @pytest.mark.processes
    def test_on_enough_replicas_acknowledge(self, valkey, client, topic, tmp_path):
        with ValkeyServer(tmp_path) as copy, redis.Redis.from_url(copy.url) as replica:
            replica.config_set("masterauth", _password(valkey.url))
            replica.replicaof("127.0.0.1", _port(valkey.url))
            eventually(
                lambda: replica.info("replication")["master_link_status"] == "up", "the link"
            )
            options = {"url": valkey.url, "wait_replicas": 1, "wait_fsync": True}

            assert publish(RedisStreamSink("parcels", options), message(topic)) == [None]
            assert replica.xlen(topic) == 1

    def test_on_disk_acknowledge(self, valkey, topic):
        sink = RedisStreamSink("parcels", {"url": valkey.url, "wait_fsync": True})

        assert publish(sink, message(topic)) == [None]

    @pytest.mark.processes
    def test_on_disk_survive_a_killed_server(self, valkey, client, topic):
        """Without wait_fsync, answers may precede the write while the disk is busy."""
        sink = RedisStreamSink("parcels", {"url": valkey.url, "wait_fsync": True})
        assert publish(sink, *[message(topic, b"%d" % number) for number in range(100)]) == (
            [None] * 100
        )

        with valkey.down():
            pass

        found = [fields["data"] for _, fields in client.xrange(topic)]
        assert found == [str(number) for number in range(100)]

    @pytest.mark.processes
    def test_on_disk_need_an_append_only_file(self, topic, tmp_path):
        """On a server of its own: turning the file on again takes a rewrite in the background."""
        with ValkeyServer(tmp_path) as server, redis.Redis.from_url(server.url) as client:
            client.config_set("appendonly", "no")
            sink = RedisStreamSink("parcels", {"url": server.url, "wait_fsync": True})
            (result,) = publish(sink, message(topic))
            (problem,) = sink.check([topic], timeout=30)

        assert isinstance(result, SinkUnavailable)
        assert 'Set "appendonly yes".' in problem


def _password(url: str) -> str:
    return url.partition("://:")[2].partition("@")[0]


def _port(url: str) -> int:
    return int(url.rpartition(":")[2].partition("/")[0])


class TestACheck:
    def test_names_a_key_that_is_no_stream(self, sink, client, topic):
        client.set(topic, "1")

        (problem,) = sink.check([topic], timeout=30)

        assert f'The key "{topic}"' in problem
        assert "type string" in problem

    def test_writes_nothing(self, sink, client, topic):
        assert sink.check([topic, f"{topic}.*"], timeout=30) == []

        assert not client.exists(topic, f"{topic}.*")

    def test_warns_of_eviction(self, sink, client, topic):
        with (
            configured(client, "maxmemory", 10**9),
            configured(client, "maxmemory-policy", "allkeys-lru"),
        ):
            (problem,) = sink.check([topic], timeout=30)

        assert 'Set "noeviction".' in problem


class TestAUser:
    @pytest.fixture
    def limited(self, valkey: ValkeyServer, client: redis.Redis) -> Iterator[RedisStreamSink]:
        """A sink whose user may write to streams "allowed..." only, and may not ask for roles."""
        client.acl_setuser(
            "limited",
            enabled=True,
            passwords="+pass",
            keys=["allowed*"],
            commands=["+xadd", "+type"],
        )
        url = f"redis://limited:pass@{valkey.url.partition('@')[2]}"
        yield RedisStreamSink("parcels", {"url": url})
        client.acl_deluser("limited")

    def test_without_permission_for_a_stream_is_refused_there(self, limited, topic):
        results = publish(limited, message(f"allowed{topic}"), message(topic))

        assert [type(one) for one in results] == [type(None), EntryRefused]

    def test_without_permission_is_found_by_the_check(self, limited, topic):
        (problem,) = limited.check([f"allowed{topic}", topic], timeout=30)

        assert f'may not write to the stream "{topic}"' in problem

    def test_without_permission_for_xadd_is_unavailable(self, limited, client, topic):
        client.acl_setuser("limited", commands=["-xadd"])

        (result,) = publish(limited, message(f"allowed{topic}"))

        assert isinstance(result, SinkUnavailable)

    def test_with_a_wrong_password_is_unavailable(self, valkey, topic):
        url = f"redis://:hunter2hunter2@{valkey.url.partition('@')[2]}"

        (result,) = publish(RedisStreamSink("parcels", {"url": url}), message(topic))

        assert isinstance(result, SinkUnavailable)
        assert "WRONGPASS" in str(result)
        assert "hunter2" not in str(result)


class TestAForkedProcess:
    @pytest.mark.processes
    def test_has_a_connection_of_its_own(self, sink, client, topic):
        assert publish(sink, message(topic, b"parent")) == [None]

        child = os.fork()
        if not child:
            with suppress(BaseException):
                results = publish(sink, message(topic, b"child"))
                sink.close()
                os._exit(0 if results == [None] else 1)
            os._exit(2)

        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert publish(sink, message(topic, b"again")) == [None]
        assert [one["data"] for _, one in client.xrange(topic)] == ["parent", "child", "again"]


class TestOptions:
    @pytest.mark.parametrize(
        "options",
        [{"url": "redis://:hunter2@host:port/"}, {"url": "redis://:hunter2@h/", "no_option": 1}],
    )
    def test_that_are_invalid_are_not_quoted(self, options):
        with pytest.raises(ImproperlyConfigured, match="cannot read its OPTIONS") as raised:
            RedisStreamSink("parcels", options)

        assert "hunter2" not in str(raised.value)

    def test_need_a_url(self):
        with pytest.raises(ImproperlyConfigured, match='needs the option "url"'):
            RedisStreamSink("parcels", {})

    def test_without_redis_name_the_extra(self, monkeypatch):
        monkeypatch.setattr(redis_streams, "redis", None)

        with pytest.raises(ImproperlyConfigured, match=r'needs redis \(extra "redis"\)'):
            RedisStreamSink("parcels", {"url": "redis://h/"})
