"""The HTTP sink against a real HTTP server."""

from __future__ import annotations

import os
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from urllib.parse import unquote

import httpcore
import pytest
import trustme
from django.core.exceptions import ImproperlyConfigured
from standardwebhooks import Webhook, WebhookVerificationError

from outbox.policy import Retry, wait_of
from outbox.receipt import PermanentFailure
from outbox.sinks import http as http_sink
from outbox.sinks.base import SinkUnavailable
from outbox.sinks.deadline import Deadline
from outbox.sinks.http import HttpSink
from outbox.sinks.http_answers import AnswerRefused, ReceiverBusy
from outbox.sinks.signatures import new_secret
from outbox.sinks.timed_http import TimedStream, retry_after
from outbox.testing import SinkContract, StoredMessage
from tests.closed_port import port_of_nobody
from tests.outbox.sinks.messages import message, publish
from tests.outbox.sinks.receiver import Exchange, Receiver, answers, receiving
from tests.processes import eventually

pytestmark = pytest.mark.once

SECRET, OLD_SECRET = new_secret(), new_secret()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


Make = Callable[..., HttpSink]


@pytest.fixture
def make() -> Iterator[Make]:
    """A function that creates a sink by its options, unsigned by default."""
    made: list[HttpSink] = []

    def create(**options: object) -> HttpSink:
        made.append(HttpSink("parcels", {"secrets": [], **options}))
        return made[-1]

    yield create
    for sink in made:
        sink.close()


@pytest.fixture
def sink(make: Make) -> HttpSink:
    return make(secrets=[SECRET])


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep connections open for longer than the requests of a test take on a busy machine."""
    monkeypatch.setattr(http_sink, "_KEPT_SECONDS", 600)


class TestHttpSink(SinkContract):
    keeps_keys = False
    keeps_ids = True
    keeps_text = False  # percent-encoded before the sink is called

    @pytest.fixture
    def sink(self, sink: HttpSink) -> HttpSink:
        return sink

    @pytest.fixture
    def topic(self, receiver: Receiver) -> str:
        return receiver.url

    @pytest.fixture
    def missing_topic(self) -> str:
        return f"http://127.0.0.1:{port_of_nobody()}/events"

    @pytest.fixture
    def received(self, receiver: Receiver) -> Callable[[str], Sequence[StoredMessage]]:
        return lambda _topic: [
            StoredMessage("", one.headers, one.body, one.headers["webhook-id"])
            for one in receiver.requests
        ]

    @pytest.fixture
    def outage(self, receiver: Receiver) -> Callable[[], AbstractContextManager[object]]:
        return receiver.down


class TestARequest:
    def test_is_signed_with_each_secret(self, make, receiver):
        sink = make(secrets=[SECRET, OLD_SECRET])
        sent = message(receiver.url, b'{"weight": 3}')

        assert publish(sink, sent) == [None]

        (request,) = receiver.requests
        assert request.headers["webhook-id"] == sent.id
        for secret in (SECRET, OLD_SECRET):
            assert Webhook(secret).verify(request.body, request.headers) == {"weight": 3}
        with pytest.raises(WebhookVerificationError):
            Webhook(new_secret()).verify(request.body, request.headers)

    def test_without_secrets_is_not_signed(self, make, receiver):
        assert publish(make(), message(receiver.url)) == [None]

        assert "webhook-signature" not in receiver.requests[0].headers
        assert "webhook-id" in receiver.requests[0].headers

    def test_has_the_attributes_and_the_configured_headers(self, make, receiver):
        sink = make(headers={"Authorization": "Bearer 123456"})

        sent = message(receiver.url, headers={"ce-id": "1", "ce-subject": "Z%C3%BCrich"})
        assert publish(sink, sent) == [None]

        headers = receiver.requests[0].headers
        assert headers["content-type"] == "application/json"
        assert headers["ce-id"] == "1"
        assert unquote(headers["ce-subject"]) == "Zürich"
        assert headers["authorization"] == "Bearer 123456"

    def test_keeps_the_text_of_a_mapper_s_header(self, sink, receiver):
        assert publish(sink, message(receiver.url, headers={"place": "東京"})) == [None]

        assert unquote(receiver.requests[0].headers["place"]) == "東京"

    def test_reuses_the_connection(self, sink, receiver, kept):
        for _ in range(3):
            assert publish(sink, message(receiver.url)) == [None]

        assert len(receiver.connections) == 1

    def test_after_the_receiver_closed_the_connection_is_no_failure(self, sink, receiver):
        assert publish(sink, message(receiver.url)) == [None]
        receiver.hang_up()

        assert publish(sink, message(receiver.url)) == [None]

    def test_goes_out_beside_others_up_to_the_limit(self, make, receiver):
        """Three meet at the barrier; a fourth would have been counted."""
        meeting, lock, counts = threading.Barrier(3, timeout=60), threading.Lock(), [0, 0]

        def count(exchange: Exchange) -> None:
            with lock:
                counts[0] += 1
                counts[1] = max(counts)
            meeting.wait()
            with lock:
                counts[0] -= 1
            exchange.answer(204)

        receiver.behaviour = count
        sink = make(concurrency=3)

        assert publish(sink, *[message(receiver.url) for _ in range(9)]) == [None] * 9
        assert counts[1] == 3


class TestAnAnswer:
    @pytest.mark.parametrize(
        ("status", "meaning"),
        [
            *((status, type(None)) for status in (200, 201, 202, 204)),
            *((status, AnswerRefused) for status in (301, 307, 404, 405, 409, 410, 421)),
            *((status, PermanentFailure) for status in (400, 413, 414, 415, 422, 431)),
            *((status, SinkUnavailable) for status in (401, 403, 407, 408, 425, 429)),
            *((status, SinkUnavailable) for status in (500, 502, 503, 504, 599)),
        ],
    )
    def test_has_a_meaning(self, sink, receiver, status, meaning):
        receiver.behaviour = answers(status)

        (result,) = publish(sink, message(receiver.url))

        assert type(result) is meaning
        assert result is None or f"HTTP {status}." in str(result)

    @pytest.mark.parametrize("status", [429, 503])
    def test_may_ask_to_wait(self, sink, receiver, status):
        receiver.behaviour = answers(status, Retry_After="120")

        (result,) = publish(sink, message(receiver.url))

        assert isinstance(result, ReceiverBusy)
        assert isinstance(result, SinkUnavailable)
        wait = wait_of(result, Retry())
        assert wait is not None
        assert wait.total_seconds() == 120

    def test_that_redirects_is_not_followed(self, sink, receiver):
        with receiving() as other:
            receiver.behaviour = answers(307, Location=other.url)

            publish(sink, message(receiver.url))

            assert other.requests == []

    def test_that_accepts_counts_although_its_body_never_ends(self, sink, receiver):
        receiver.behaviour = receiver.flood

        assert publish(sink, message(receiver.url)) == [None]

    @pytest.mark.parametrize("behaviour", ["hang", "drip"])
    def test_that_is_late_is_unavailable(self, sink, receiver, behaviour):
        receiver.behaviour = getattr(receiver, behaviour)

        results = publish(sink, message(receiver.url), message(receiver.url), timeout=1)

        assert [type(one) for one in results] == [SinkUnavailable] * 2
        assert "no answer within the time limit" in str(results[0])
        eventually(lambda: not _requests_in_flight(), "the requests end by the time limit")

    def test_that_is_missing_is_unavailable(self, sink, receiver):
        receiver.behaviour = receiver.drop

        (result,) = publish(sink, message(receiver.url))

        assert isinstance(result, SinkUnavailable)

    def test_of_one_receiver_does_not_delay_another(self, sink, receiver):
        """The first one does not answer before the second one has."""
        is_answered = threading.Event()

        def answer_first(exchange: Exchange) -> None:
            exchange.answer(204)
            is_answered.set()

        def answer_second(exchange: Exchange) -> None:
            assert is_answered.wait(60)
            exchange.answer(503)

        receiver.behaviour = answer_second
        with receiving() as quick:
            quick.behaviour = answer_first
            results = publish(sink, message(receiver.url), message(quick.url))

        assert [type(one) for one in results] == [SinkUnavailable, type(None)]


def _requests_in_flight() -> list[threading.Thread]:
    return [one for one in threading.enumerate() if one.name.startswith("outbox-http-sink")]


class TestRetryAfter:
    @pytest.mark.parametrize(
        "date",
        [
            b"Mon, 01 Jan 99999999999999999999 00:00:00 GMT",
            b"Mon, 01 Jan 2026 00:00:00 +99999999999999",
            b"soon",
        ],
    )
    def test_is_0_for_a_date_that_is_none(self, date: bytes):
        assert retry_after([(b"Retry-After", date)]) == 0


class TestAWrite:
    def test_ends_with_its_time_while_the_peer_reads_slowly(self):
        """Seen to last until the end of the data."""
        deadline, is_over = Deadline(0.5), threading.Event()
        small = (socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)

        def left() -> float:
            if deadline.has_passed:
                raise httpcore.TimeoutException
            return deadline.left()

        with socket.create_server(("127.0.0.1", 0)) as server:
            server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            port = server.getsockname()[1]
            stream = httpcore.SyncBackend().connect_tcp("127.0.0.1", port, 60, None, [small])
            peer, _address = server.accept()
            peer.settimeout(0.1)

            def read_slowly() -> None:
                while not is_over.wait(0.02):
                    with suppress(TimeoutError):
                        peer.recv(1024)

            reader = threading.Thread(target=read_slowly)
            reader.start()
            try:
                with pytest.raises(httpcore.TimeoutException):
                    TimedStream(stream, left).write(b"x" * 400_000)
            finally:
                is_over.set()
                reader.join()
                peer.close()
                stream.close()


class TestRequestsThatWereNotSentInTime:
    def test_are_unavailable_and_not_sent_later(self, make, receiver):
        receiver.behaviour = receiver.hang
        sink = make(concurrency=1)

        results = publish(sink, *[message(receiver.url) for _ in range(3)], timeout=3)
        receiver.behaviour = answers(204)
        receiver.released.set()

        assert [type(one) for one in results] == [SinkUnavailable] * 3
        assert publish(sink, message(receiver.url)) == [None]
        assert len(receiver.requests) == 2


class TestAnError:
    def test_shows_no_query_and_no_option(self, make, receiver):
        receiver.behaviour = answers(500)
        sink = make(headers={"Authorization": "Bearer hunter2"})

        (result,) = publish(sink, message(f"{receiver.url}?token=hunter2"))

        assert str(result) == f"{receiver.url}: HTTP 500."

    @pytest.mark.parametrize(
        "url", ["", "ftp://host/", "http://", "http://host:99999/", "http://h/ü", "http://h/a b"]
    )
    def test_of_an_invalid_url_is_one_message_s(self, sink, receiver, url):
        results = publish(sink, message(url), message(receiver.url))

        assert [type(one) for one in results] == [AnswerRefused, type(None)]
        assert len(sink.check([url], timeout=30)) == 1

    def test_of_a_url_with_a_user_does_not_show_it(self, sink, receiver):
        url = receiver.url.replace("://", "://me:hunter2@")

        (result,) = publish(sink, message(url))

        assert "contains a user" in str(result)
        assert "hunter2" not in str(result)
        assert receiver.requests == []

    @pytest.mark.parametrize("headers", [{"a b": "hunter2"}, {"place": " hunter2"}])
    def test_of_a_mapper_s_header_is_one_message_s(self, sink, receiver, headers):
        """The breaker does not count it, and its text does not show the value."""
        results = publish(sink, message(receiver.url, headers=headers), message(receiver.url))

        assert [type(one) for one in results] == [PermanentFailure, type(None)]
        assert "Correct the sink's mapper" in str(results[0])
        assert "hunter2" not in str(results[0])


class TestACheck:
    def test_sends_no_request(self, sink, receiver):
        assert sink.check([receiver.url, f"{receiver.url}/*"], timeout=30) == []

        assert receiver.requests == []

    def test_connects_to_no_host_that_depends_on_a_key(self, sink):
        assert sink.check(["https://*.example.com/events"], timeout=30) == []


class TestTls:
    @pytest.fixture
    def authority(self) -> trustme.CA:
        return trustme.CA()

    @pytest.fixture
    def ca_file(self, authority: trustme.CA, tmp_path: Path) -> str:
        authority.cert_pem.write_to_path(tmp_path / "ca.pem")
        return str(tmp_path / "ca.pem")

    def context(self, authority: trustme.CA, host: str = "127.0.0.1") -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert(host).configure_cert(context)
        return context

    def test_accepts_a_certificate_of_the_given_authority(self, make, authority, ca_file):
        sink = make(ca_file=ca_file)
        with receiving(self.context(authority)) as receiver:
            assert publish(sink, message(receiver.url)) == [None]
            assert sink.check([receiver.url], timeout=30) == []

    def test_refuses_a_certificate_of_an_unknown_authority(self, authority, sink):
        with receiving(self.context(authority)) as receiver:
            (result,) = publish(sink, message(receiver.url))
            (problem,) = sink.check([receiver.url], timeout=30)

        assert isinstance(result, SinkUnavailable)
        assert "certificate" in str(result)
        assert "certificate" in problem
        assert receiver.requests == []

    def test_refuses_a_certificate_of_another_host(self, make, authority, ca_file):
        sink = make(ca_file=ca_file)
        with receiving(self.context(authority, "other.example")) as receiver:
            (result,) = publish(sink, message(receiver.url))

        assert isinstance(result, SinkUnavailable)
        assert receiver.requests == []

    def test_shows_the_client_s_certificate(self, make, authority, ca_file, tmp_path):
        own = authority.issue_cert("client.example")
        own.private_key_pem.write_to_path(tmp_path / "key.pem")
        own.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
        pair = (str(tmp_path / "cert.pem"), str(tmp_path / "key.pem"))
        context = self.context(authority)
        context.verify_mode = ssl.CERT_REQUIRED
        authority.configure_trust(context)
        with receiving(context) as receiver:
            without = publish(make(ca_file=ca_file), message(receiver.url))
            shown = make(ca_file=ca_file, client_certificate=pair)
            with_it = publish(shown, message(receiver.url))

        assert [type(one) for one in without + with_it] == [SinkUnavailable, type(None)]


class TestAForkedProcess:
    @pytest.mark.processes
    def test_has_connections_of_its_own(self, sink, receiver, kept):
        assert publish(sink, message(receiver.url)) == [None]

        child = os.fork()
        if not child:
            with suppress(BaseException):
                results = publish(sink, message(receiver.url))
                sink.close()
                os._exit(0 if results == [None] else 1)
            os._exit(2)

        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert publish(sink, message(receiver.url)) == [None]
        assert len(receiver.connections) == 2


class TestOptions:
    @pytest.mark.parametrize(
        "secrets",
        [None, SECRET, ["hunter2"], ["whsec_aHVudGVyMg=="], [SECRET, 7]],
        ids=["none", "one text", "no prefix", "too short", "a number"],  # SECRET is random
    )
    def test_need_valid_secrets(self, secrets):
        with pytest.raises(ImproperlyConfigured, match='needs the option "secrets"') as raised:
            HttpSink("parcels", {"secrets": secrets})

        assert "hunter2" not in str(raised.value)

    @pytest.mark.parametrize(
        "headers",
        [
            {"Authorization": "Bearer hunter2\n"},
            {"Authorization": " hunter2"},
            {"Authorization": "hünter2 hunter2"},
            {"Authorization": 7},
            {"X Key": "hunter2"},
            {"Content-Length": "2"},
            None,
        ],
        ids=["line end", "blank", "no ASCII", "number", "name", "length", "none"],
    )
    def test_need_headers_that_http_allows(self, headers):
        with pytest.raises(ImproperlyConfigured, match='option "headers"') as raised:
            HttpSink("parcels", {"secrets": [], "headers": headers})

        assert "hunter2" not in str(raised.value)

    def test_need_files_that_can_be_read(self):
        with pytest.raises(ImproperlyConfigured, match="cannot read a file"):
            HttpSink("parcels", {"secrets": [], "ca_file": "/no/such/file"})

    def test_without_httpcore_name_the_extra(self, monkeypatch):
        monkeypatch.setattr(http_sink, "httpcore", None)

        with pytest.raises(ImproperlyConfigured, match=r'needs httpcore \(extra "http"\)'):
            HttpSink("parcels", {"secrets": []})


class TestAKeyInTheUrl:
    def test_is_percent_encoded(self):
        assert HttpSink.key_in_topic("a/b?c=ü") == "a%2Fb%3Fc%3D%C3%BC"
