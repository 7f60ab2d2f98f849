"""The sink of NATS JetStream, against a real server."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest
from django.core.exceptions import ImproperlyConfigured

from outbox import PermanentFailure
from outbox.sinks.base import SinkMessage, SinkUnavailable
from outbox.sinks.nats import NatsSink
from outbox.sinks.nats.errors import NatsRefusal
from outbox.sinks.nats.subjects import covers, overlaps, token
from outbox.testing import SinkContract, StoredMessage
from tests.outbox.sinks import streams
from tests.outbox.sinks.libraries import error_without
from tests.outbox.sinks.sent import message
from tests.processes import eventually
from tests.servers.nats import NatsServer

pytestmark = pytest.mark.once

TIMEOUT = 30.0
#: Seconds that a call may take while the server is frozen. The result is asserted, not the time.
SHORT = 1.0


@pytest.fixture
def stream(nats: NatsServer) -> str:
    """The name of a new stream, which stores all subjects below its name."""
    name = f"s{uuid4().hex}"
    streams.create(nats.url, name, [f"{name}.>"])
    return name


@pytest.fixture
def new_sink() -> Iterator[Callable[..., NatsSink]]:
    sinks: list[NatsSink] = []

    def new(**options: object) -> NatsSink:
        sinks.append(NatsSink("audit", options))
        return sinks[-1]

    yield new
    for one in sinks:
        one.close()


@pytest.fixture
def sink(nats: NatsServer, new_sink: Callable[..., NatsSink]) -> NatsSink:
    return new_sink(servers=nats.url)


def is_unavailable(sink: NatsSink, one: SinkMessage) -> bool:
    """Publish a message. Return whether the call, or the message in it, found no server."""
    try:
        [result] = sink.publish([one], timeout=TIMEOUT)
    except SinkUnavailable:
        return True
    return isinstance(result, SinkUnavailable)


class TestNatsSink(SinkContract):
    """JetStream has no partition key: the subject contains it."""

    keeps_keys = False
    keeps_text = False  # the CloudEvents binding for NATS encodes header values
    keeps_ids = True
    discards_known_ids = True

    @pytest.fixture
    def sink(self, sink: NatsSink) -> NatsSink:
        return sink

    @pytest.fixture
    def topic(self, stream: str) -> str:
        return f"{stream}.parcels"

    @pytest.fixture
    def missing_topic(self) -> str:
        return f"{uuid4().hex}.parcels"

    @pytest.fixture
    def received(self, nats: NatsServer) -> Callable[[str], Sequence[StoredMessage]]:
        return lambda topic: [
            StoredMessage(key="", headers=one.headers, body=one.data, id=one.headers["Nats-Msg-Id"])
            for one in streams.stored(nats.url, topic.partition(".")[0])
        ]

    @pytest.fixture
    def outage(self, nats: NatsServer) -> Callable[[], AbstractContextManager[object]]:
        return nats.down


class TestNatsSinkThatIsFrozen(TestNatsSink):
    """The same with an outage in which the server accepts connections and answers nothing."""

    @pytest.fixture
    def outage(self, nats: NatsServer) -> Callable[[], AbstractContextManager[object]]:
        return nats.frozen


class TestAMessage:
    def test_is_stored_with_its_subject_headers_and_body(self, nats, stream, sink):
        sent = message(f"{stream}.parcels.7", headers={"ce-id": "1", "ce-type": "freight.Sent"})

        assert sink.publish([sent], timeout=TIMEOUT) == [None]

        [found] = streams.stored(nats.url, stream)
        assert found.subject == f"{stream}.parcels.7"
        assert found.data == sent.body
        assert found.headers == {"ce-id": "1", "ce-type": "freight.Sent", "Nats-Msg-Id": sent.id}

    def test_is_stored_in_the_order_of_its_call(self, nats, stream, sink):
        sent = [message(f"{stream}.{number % 7}") for number in range(100)]

        assert sink.publish(sent, timeout=TIMEOUT) == [None] * 100

        assert streams.ids(nats.url, stream) == [one.id for one in sent]

    def test_is_acknowledged_and_not_stored_again_if_its_id_is_known(self, nats, stream, sink):
        sent = message(f"{stream}.7")

        assert sink.publish([sent], timeout=TIMEOUT) == [None]
        assert sink.publish([sent, sent], timeout=TIMEOUT) == [None, None]

        assert streams.ids(nats.url, stream) == [sent.id]

    def test_is_stored_again_for_a_requested_replay(self, nats, stream, sink):
        sent = message(f"{stream}.7")
        replayed = replace(sent, id=f"{sent.id}.1")

        sink.publish([sent], timeout=TIMEOUT)
        sink.publish([replayed], timeout=TIMEOUT)

        assert streams.ids(nats.url, stream) == [sent.id, f"{sent.id}.1"]


class TestASubjectWithoutStream:
    def test_is_an_error_with_the_next_step(self, sink, stream):
        known, unknown = message(f"{stream}.7"), message("nowhere.7")

        first, second = sink.publish([unknown, known], timeout=TIMEOUT)

        assert isinstance(first, NatsRefusal)
        assert str(first) == (
            'No stream of JetStream stores the subject "nowhere.7". Create one, or correct TOPIC.'
        )
        assert second is None

    @pytest.mark.parametrize("subject", ["a..b", "a b", "a.*", "a.>", "a.b\r\nPUB c 0", "", ".a"])
    def test_is_refused_for_good_if_nothing_can_be_published_to_it(self, sink, stream, subject):
        results = sink.publish([message(subject), message(f"{stream}.7")], timeout=TIMEOUT)

        assert isinstance(results[0], PermanentFailure)
        assert results[1] is None


class TestASizeLimit:
    def test_of_the_server_refuses_only_the_large_message(self, nats, stream, sink):
        large = message(f"{stream}.7", body=b"x" * 1024 * 1024)
        small = message(f"{stream}.7")

        first, second = sink.publish([large, small], timeout=TIMEOUT)

        assert isinstance(first, PermanentFailure)
        assert second is None
        assert streams.ids(nats.url, stream) == [small.id]

    def test_of_the_server_counts_the_headers(self, nats, stream, sink):
        """The server would close the connection, and with it fail the whole batch."""
        headers = {"ce-type": "x" * 2000}
        large = message(f"{stream}.7", headers=headers, body=b"x" * (1024 * 1024 - 2000))

        first, second = sink.publish([large, message(f"{stream}.7")], timeout=TIMEOUT)

        assert isinstance(first, PermanentFailure)
        assert second is None

    def test_of_the_stream_refuses_only_the_large_message(self, nats, sink):
        streams.create(nats.url, "narrow", ["narrow.>"], max_msg_size=500)
        large = message("narrow.7", body=b"x" * 1000)

        first, second = sink.publish([large, message("narrow.7")], timeout=TIMEOUT)

        assert isinstance(first, PermanentFailure)
        assert second is None


class TestAFullStream:
    def test_is_unavailable(self, nats, sink):
        streams.create(nats.url, "full", ["full.>"], max_msgs=1, discard="new")
        sink.publish([message("full.7")], timeout=TIMEOUT)

        [result] = sink.publish([message("full.7")], timeout=TIMEOUT)

        assert isinstance(result, SinkUnavailable)


class TestAKeyInASubject:
    @pytest.mark.parametrize(
        ("key", "expected"),
        [
            ("order-7_A", "order-7_A"),
            ("a.b", "a%2Eb"),
            ("a b>*", "a%20b%3E%2A"),
            ("~", "%7E"),
            ("%", "%25"),
            ("", "%"),
            ("注文", "%E6%B3%A8%E6%96%87"),
        ],
    )
    def test_is_one_token(self, sink, stream, key, expected):
        assert token(key) == NatsSink.key_in_topic(key) == expected

        assert sink.publish([message(f"{stream}.{token(key)}")], timeout=TIMEOUT) == [None]


class TestAServer:
    def test_that_is_down_is_unavailable_and_used_again_later(self, nats, stream, sink):
        first, second = message(f"{stream}.7"), message(f"{stream}.7")
        assert sink.publish([first], timeout=TIMEOUT) == [None]

        with nats.down():
            assert is_unavailable(sink, second)  # it may not know yet that the connection is lost
            with pytest.raises(SinkUnavailable, match="cannot connect to NATS"):
                sink.publish([second], timeout=TIMEOUT)

        assert sink.publish([second], timeout=TIMEOUT) == [None]
        assert streams.ids(nats.url, stream) == [first.id, second.id]

    def test_that_is_frozen_is_unavailable_and_used_again_later(self, nats, stream, sink):
        """The first call has a connection, and the second needs a new one."""
        first, second = message(f"{stream}.7"), message(f"{stream}.7")
        assert sink.publish([first], timeout=TIMEOUT) == [None]

        with nats.frozen():
            [result] = sink.publish([second], timeout=SHORT)
            assert isinstance(result, SinkUnavailable)
            with pytest.raises(SinkUnavailable):
                sink.publish([second], timeout=SHORT)

        assert sink.publish([second], timeout=TIMEOUT) == [None]
        assert streams.ids(nats.url, stream) == [first.id, second.id]

    def test_is_replaced_by_another_of_the_list(self, nats, stream, new_sink):
        sink = new_sink(servers=["nats://127.0.0.1:1", nats.url])

        assert sink.publish([message(f"{stream}.7")], timeout=TIMEOUT) == [None]


class TestAServerThatFailsInMidBatch:
    """What is not acknowledged is sent again under its id, and stored once."""

    def test_has_all_acknowledged_messages_once_after_kills(self, nats, stream, sink):
        publishing = Publishing(sink, stream, timeout=TIMEOUT)

        publishing.disturbed_by(nats.down, times=3)

        self.assert_stored_once(publishing, streams.ids(nats.url, stream))

    def test_has_all_acknowledged_messages_once_after_freezes(self, nats, stream, sink):
        publishing = Publishing(sink, stream, timeout=SHORT)

        publishing.disturbed_by(nats.frozen, times=2)

        self.assert_stored_once(publishing, streams.ids(nats.url, stream))

    def assert_stored_once(self, publishing: Publishing, stored: list[str]) -> None:
        assert len(stored) == len(set(stored))
        assert sorted(stored) == sorted(publishing.acknowledged)


class Publishing:
    """Publishes batch after batch in a thread, each message until it is acknowledged."""

    def __init__(self, sink: NatsSink, stream: str, *, timeout: float) -> None:
        self._sink = sink
        self._stream = stream
        self._timeout = timeout
        self._stopped = threading.Event()
        self.acknowledged: list[str] = []
        self.failures = 0

    def disturbed_by(
        self, outage: Callable[[], AbstractContextManager[object]], *, times: int
    ) -> None:
        """Publish through outages, each of which begins after acknowledgements and fails a call."""
        thread = threading.Thread(target=self._publish_all)
        thread.start()
        try:
            for _ in range(times):
                self._wait_for_more(lambda: len(self.acknowledged), "a batch is acknowledged")
                with outage():
                    self._wait_for_more(lambda: self.failures, "a call fails")
        finally:
            self._stopped.set()
            thread.join()

    def _wait_for_more(self, count: Callable[[], int], what: str) -> None:
        before = count()
        eventually(lambda: count() > before, what)

    def _publish_all(self) -> None:
        while not self._stopped.is_set():
            batch = [message(f"{self._stream}.{number}") for number in range(20)]
            while batch := self._unsettled(batch):
                self.failures += 1

    def _unsettled(self, batch: list[SinkMessage]) -> list[SinkMessage]:
        """Publish once, and return the messages that were not acknowledged."""
        try:
            results = self._sink.publish(batch, timeout=self._timeout)
        except SinkUnavailable:
            return batch
        pairs = list(zip(batch, results, strict=True))
        self.acknowledged += [one.id for one, result in pairs if result is None]
        return [one for one, result in pairs if result is not None]


class TestAForkedChild:
    def test_publishes_with_a_connection_of_its_own(self, nats, stream, sink):
        first, second, third = (message(f"{stream}.7") for _ in range(3))
        assert sink.publish([first], timeout=TIMEOUT) == [None]

        child = os.fork()
        if child == 0:
            status = 1
            try:
                status = 0 if sink.publish([second], timeout=TIMEOUT) == [None] else 2
            finally:
                os._exit(status)
        assert os.waitpid(child, 0)[1] == 0

        assert sink.publish([third], timeout=TIMEOUT) == [None]
        assert streams.ids(nats.url, stream) == [first.id, second.id, third.id]


class TestCredentials:
    @pytest.fixture
    def guarded(self, tmp_path: Path) -> Iterator[NatsServer]:
        server = NatsServer(tmp_path)
        configuration = tmp_path / "nats.conf"
        permissions = 'permissions: {publish: {deny: ["denied.>"]}}'
        configuration.write_text(
            configuration.read_text()
            + f'authorization {{users: [{{user: "shop", password: "s3cret", {permissions}}}]}}\n'
        )
        with server:
            yield server

    def test_that_are_refused_are_unavailable_and_not_quoted(self, guarded, new_sink):
        address = guarded.url.removeprefix("nats://")
        sink = new_sink(servers=f"nats://shop:wr0ng@{address}")

        with pytest.raises(SinkUnavailable, match="refuses the credentials") as caught:
            sink.publish([message("a.7")], timeout=TIMEOUT)

        [problem] = sink.check(["a.7"], timeout=TIMEOUT)
        assert "wr0ng" not in str(caught.value) + repr(caught.value.__context__) + problem
        assert address not in str(caught.value) + problem

    def test_without_a_permission_are_unavailable_with_the_permission(self, guarded, new_sink):
        sink = new_sink(servers=guarded.url, user="shop", password="s3cret")

        [result] = sink.publish([message("denied.7")], timeout=3 * SHORT)

        assert isinstance(result, SinkUnavailable)
        assert 'permissions violation for publish to "denied.7"' in str(result)


class TestATimeLimitOfTheCaller:
    """The limit interrupts a call that waits for the connection's thread."""

    def test_leaves_no_message_that_is_sent_later(self, nats, stream, sink):
        assert sink.publish([message(f"{stream}.7")], timeout=TIMEOUT) == [None]
        sending: list[asyncio.Task[object]] = []

        def waits() -> bool:
            sending.extend(publishing_tasks(sink))
            return bool(sending)

        with nats.frozen():
            with interrupted_once(waits), pytest.raises(Interrupted):
                sink.publish([message(f"{stream}.7")], timeout=TIMEOUT)

            eventually(lambda: all(one.done() for one in sending), "the end of the call")

        assert [one.cancelled() for one in sending] == [True]


class Interrupted(Exception):
    pass


@contextmanager
def interrupted_once(condition: Callable[[], object]) -> Iterator[None]:
    """Raise `Interrupted` in this thread as soon as the condition holds."""

    def interrupt(_number: int, _frame: object) -> None:
        raise Interrupted

    def wait() -> None:
        eventually(condition, "a call that waits")
        os.kill(os.getpid(), signal.SIGUSR1)

    before = signal.signal(signal.SIGUSR1, interrupt)
    thread = threading.Thread(target=wait)
    thread.start()
    try:
        yield
    finally:
        thread.join()
        signal.signal(signal.SIGUSR1, before)


def publishing_tasks(sink: NatsSink) -> list[asyncio.Task[object]]:
    """Return the tasks of the sink's thread that send a message or wait for its answer."""
    loop = sink._connections._loop
    assert loop
    tasks = asyncio.all_tasks(loop._loop)
    return [one for one in tasks if "NatsSink._result" in repr(one.get_coro())]


class TestTheCheck:
    def test_finds_nothing_to_report(self, nats, stream, sink):
        assert sink.check([f"{stream}.*", f"{stream}.freight.x-*"], timeout=TIMEOUT) == []

    def test_reports_a_subject_that_no_stream_stores(self, sink, stream):
        [problem] = sink.check([f"{stream}.*", "nowhere.*"], timeout=TIMEOUT)

        assert 'No stream of JetStream stores the subject "nowhere.*"' in problem

    def test_reports_a_short_duplicate_window(self, nats, sink):
        streams.create(nats.url, "forgetful", ["forgetful.>"], duplicate_window=10)

        [problem] = sink.check(["forgetful.7"], timeout=TIMEOUT)

        assert 'The stream "forgetful" recognises a repeated message for 10 seconds.' in problem

    def test_reports_a_stream_without_acknowledgements(self, nats, sink):
        streams.create(nats.url, "silent", ["silent.>"], no_ack=True)

        [problem] = sink.check(["silent.7"], timeout=TIMEOUT)

        assert 'The stream "silent" acknowledges nothing' in problem

    def test_reports_a_stream_with_a_lower_size_limit(self, nats, sink, new_sink):
        streams.create(nats.url, "tight", ["tight.>"], max_msg_size=100)

        [problem] = sink.check(["tight.7"], timeout=TIMEOUT)

        assert 'The stream "tight" accepts 100 bytes' in problem
        assert new_sink(servers=nats.url, max_bytes=100).check(["tight.7"], timeout=TIMEOUT) == []

    def test_reports_a_server_with_a_lower_size_limit(self, nats, stream, new_sink):
        sink = new_sink(servers=nats.url, max_bytes=2 * 1024 * 1024)

        [problem] = sink.check([f"{stream}.7"], timeout=TIMEOUT)

        assert "The NATS server accepts 1048576 bytes" in problem

    def test_reports_a_server_without_jetstream(self, tmp_path, new_sink):
        server = NatsServer(tmp_path)
        configuration = tmp_path / "nats.conf"
        configuration.write_text(configuration.read_text().partition("jetstream")[0])
        with server:
            sink = new_sink(servers=server.url)

            [problem] = sink.check(["a.7"], timeout=TIMEOUT)
            [result] = sink.publish([message("a.7")], timeout=TIMEOUT)

        assert "Enable JetStream for this account" in problem
        assert isinstance(result, SinkUnavailable)
        assert "Check that JetStream is enabled" in str(result)

    def test_reports_a_server_that_is_down(self, new_sink):
        [problem] = new_sink(servers="nats://127.0.0.1:1").check(["a"], timeout=TIMEOUT)

        assert "cannot connect to NATS: ConnectionRefusedError" in problem


class TestASubscriberThatAnswers:
    def test_does_not_count_as_a_stream(self, nats, sink):
        """Any subscriber may answer a publication. Only a stream's acknowledgement counts."""
        with streams.answering(nats.url, "echo.7", b"thanks"):
            [result] = sink.publish([message("echo.7")], timeout=TIMEOUT)

        assert isinstance(result, NatsRefusal)
        assert "is no acknowledgement of JetStream" in str(result)


class TestTheOptions:
    def test_refuse_an_unknown_name(self):
        with pytest.raises(ImproperlyConfigured, match='unknown name "server"'):
            NatsSink("audit", {"server": "nats://shop:s3cret@127.0.0.1"})

    def test_need_the_library(self):
        error = error_without("nats", "outbox.sinks.nats.NatsSink")

        assert error == (
            'ImproperlyConfigured: The sink "audit" needs nats-py (extra "nats"). '
            "Install it: pip install nats-py."
        )


class TestCovers:
    @pytest.mark.parametrize(
        ("pattern", "subject", "expected"),
        [
            ("a.b", "a.b", True),
            ("a.*", "a.b", True),
            ("a.*", "a.*", True),
            ("a.b", "a.*", False),
            ("a.*", "a.b.c", False),
            ("a.>", "a.b.c", True),
            ("a.>", "a", False),
            (">", "a.b", True),
            ("*.b", "a.c", False),
            ("a.>", "a.>", True),
            ("a.*.>", "a.>", False),
            ("a.*", "a.>", False),
        ],
    )
    def test_compares_tokens(self, pattern, subject, expected):
        assert covers(pattern, subject) is expected


class TestOverlaps:
    @pytest.mark.parametrize(
        ("one", "other", "expected"),
        [
            ("a.b", "a.b", True),
            ("a.*", "*.b", True),
            ("a.*.c", "a.>", True),
            (">", "a", True),
            ("a.b", "a.c", False),
            ("a.*", "a.b.c", False),
            ("a", "a.>", False),
            ("a.b.>", "a.c.>", False),
        ],
    )
    def test_compares_tokens_of_both(self, one, other, expected):
        assert overlaps(one, other) is expected
        assert overlaps(other, one) is expected


def test_closing_ends_the_thread(nats, stream, new_sink):
    sink = new_sink(servers=nats.url)
    sink.publish([message(f"{stream}.7")], timeout=TIMEOUT)

    sink.close()

    eventually(
        lambda: not any("outbox-nats" in one.name for one in threading.enumerate()),
        "the thread of the sink ends",
    )
