"""The HTTP sink: CloudEvents over HTTP, signed as Standard Webhooks, by httpcore.

One POST for each message. The topic is the URL. A message is acknowledged by a status of 2xx; its
`webhook-id` stays the same with each retry, so the receiver can discard a repetition.
https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/http-protocol-binding.md

The operator sets the URL, so it may lead to a private address. Redirects are not followed, and
proxies of the environment are not used.
"""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import quote, urlsplit

from django.core.exceptions import ImproperlyConfigured

from outbox.options import number
from outbox.receipt import PermanentFailure

from . import signatures
from .base import Sink, SinkMessage, SinkUnavailable
from .deadline import Deadline
from .http_answers import AnswerRefused, meaning_of
from .http_headers import wrong_headers

try:
    import httpcore

    from .timed_http import TimedStream, retry_after
except ImportError:  # the constructor names the missing library
    if not TYPE_CHECKING:
        httpcore = None

#: Requests at the same time, by default.
CONCURRENCY = 8
#: Bytes of an answer that are read, so that the connection can be used again.
MAX_ANSWER_BYTES = 16 * 1024
#: Seconds for which a connection without a request stays open.
_KEPT_SECONDS = 5

_PORTS = {"http": 80, "https": 443}

#: Printable ASCII. A header of a mapper may have other characters, which HTTP does not allow.
_PRINTABLE = "".join(map(chr, range(0x20, 0x7F)))


class HttpSink(Sink):
    """Posts to a URL, at most `concurrency` requests at the same time.

    Options:
        secrets: list of secrets "whsec_...", to sign with each of them. Two while a secret
            changes; an empty list sends unsigned requests.
        headers: further headers, for example {"Authorization": "Bearer ..."}.
        concurrency: most requests at the same time; default 8.
        ca_file: file with certificates to trust, instead of the system's.
        client_certificate: pair of files, certificate and key.

    Raises:
        ImproperlyConfigured: httpcore is not installed, or an option is missing or invalid.
    """

    header_prefix: ClassVar[str] = "ce-"
    percent_encoded: ClassVar[bool] = True
    max_batch = 50

    def __init__(self, name: str, options: Mapping[str, Any]) -> None:
        super().__init__(name, options)
        if httpcore is None:
            raise ImproperlyConfigured(f'The HTTP sink "{name}" needs httpcore (extra "http").')
        self._secrets = self._valid_secrets()
        self._own_headers = self._valid_headers()
        concurrency = number(f'the sink "{name}"', options, "concurrency", CONCURRENCY)
        self._concurrency = max(concurrency, 1)
        self._tls = self._trust()
        self._pool: httpcore.ConnectionPool | None = None
        self._pid = 0
        self._of_thread = threading.local()

    @classmethod
    def key_in_topic(cls, key: str) -> str:
        """Return a key as a part of a URL."""
        return quote(key, safe="")

    def publish(
        self, messages: Sequence[SinkMessage], *, timeout: float
    ) -> Sequence[Exception | None]:
        """Post all messages, some at the same time. See `Sink.publish`."""
        deadline = Deadline(timeout)
        self._renew_after_fork()
        executor = ThreadPoolExecutor(
            min(self._concurrency, len(messages) or 1), "outbox-http-sink"
        )
        try:
            futures = [executor.submit(self._post, message, deadline) for message in messages]
            wait(futures, timeout=deadline.left())
        finally:
            # A thread may wait for a name server, which has no time limit. It is left behind.
            executor.shutdown(wait=False, cancel_futures=True)
        return [
            future.result() if future.done() and not future.cancelled() else self._late(message)
            for future, message in zip(futures, messages, strict=True)
        ]

    def check(self, topics: Sequence[str], *, timeout: float) -> Sequence[str]:
        """Return the problems of URLs, names, connections and certificates.

        It makes a connection and sends no request: a receiver may take any request for a message,
        or log it as an error.
        """
        deadline = Deadline(timeout)
        problems = []
        topic_by_origin: dict[tuple[str, str], str] = {}
        for topic in topics:
            try:
                parts = _parse(topic)
            except AnswerRefused as error:
                problems.append(str(error))
            else:
                topic_by_origin.setdefault((parts.scheme, parts.netloc), topic)
        for (_, place), topic in topic_by_origin.items():
            if "*" not in place:  # a host that depends on the event's key
                problems += self._problems_of(topic, deadline)
        return problems

    def close(self) -> None:
        """Close the connections of this process."""
        pool, self._pool = self._pool, None
        if pool is not None and self._pid == os.getpid():
            pool.close()

    def _valid_secrets(self) -> tuple[str, ...]:
        given = self.options.get("secrets")
        if not isinstance(given, list | tuple) or not all(
            isinstance(one, str) and signatures.is_secret(one) for one in given
        ):
            raise ImproperlyConfigured(
                f'The HTTP sink "{self.name}" needs the option "secrets": a list of secrets '
                '"whsec_" and Base64 of 24 to 64 bytes. An empty list sends unsigned requests.'
            )
        return tuple(given)

    def _valid_headers(self) -> dict[str, str]:
        """Return the option, with names in lower case."""
        if problem := next(wrong_headers(self.name, self.options), None):
            raise ImproperlyConfigured(problem)
        return {name.lower(): value for name, value in self.options.get("headers", {}).items()}

    def _trust(self) -> ssl.SSLContext:
        try:
            context = ssl.create_default_context(cafile=self.options.get("ca_file"))
            if pair := self.options.get("client_certificate"):
                context.load_cert_chain(*pair)
        except (OSError, TypeError, ValueError):
            raise ImproperlyConfigured(
                f'The HTTP sink "{self.name}" cannot read a file of its options "ca_file" and '
                '"client_certificate".'
            ) from None
        return context

    def _renew_after_fork(self) -> None:
        if self._pool is None or self._pid != os.getpid():
            self._pid = os.getpid()
            self._of_thread = threading.local()
            self._pool = httpcore.ConnectionPool(
                ssl_context=self._tls,
                max_connections=None,  # the number of threads is the limit
                max_keepalive_connections=self._concurrency,
                keepalive_expiry=_KEPT_SECONDS,
                network_backend=_TimedBackend(self._left),
            )

    def _left(self) -> float:
        """Return the seconds that are left of the request of this thread."""
        deadline: Deadline = self._of_thread.deadline
        if deadline.has_passed:
            raise httpcore.TimeoutException
        return deadline.left()

    def _post(self, message: SinkMessage, deadline: Deadline) -> Exception | None:
        self._of_thread.deadline = deadline
        try:
            _parse(message.topic)
            status, seconds = self._exchange(message)
        except httpcore.TimeoutException:
            return self._late(message)
        except httpcore.LocalProtocolError:  # its text quotes the header
            return PermanentFailure(
                f"{_shown(message.topic)}: HTTP does not allow a header of this message. Correct "
                "the sink's mapper."
            )
        except (httpcore.NetworkError, httpcore.ProtocolError, OSError) as error:
            return SinkUnavailable(f"{_shown(message.topic)}: {_reason(error)}")
        except Exception as error:
            return error
        return meaning_of(status, seconds, _shown(message.topic))

    def _exchange(self, message: SinkMessage) -> tuple[int, float]:
        assert self._pool is not None
        with self._pool.stream(
            "POST", message.topic, headers=self._headers(message), content=message.body
        ) as response:
            with contextlib.suppress(httpcore.NetworkError, httpcore.ProtocolError):
                _read_limited(response)  # the status counts, also if the rest is lost
            return response.status, retry_after(response.headers)

    def _headers(self, message: SinkMessage) -> list[tuple[str, str]]:
        made = {"user-agent": "outbox-http-sink/1", "content-type": "application/json"}
        for name, value in message.headers.items():
            made[name.lower()] = quote(value, safe=_PRINTABLE)
        made |= self._own_headers
        made |= signatures.headers(
            message_id=message.id,
            timestamp=int(time.time()),
            body=message.body,
            keys=self._secrets,
        )
        if not self._secrets:
            del made["webhook-signature"]
        return list(made.items())

    def _late(self, message: SinkMessage) -> SinkUnavailable:
        return SinkUnavailable(f"{_shown(message.topic)}: no answer within the time limit.")

    def _problems_of(self, topic: str, deadline: Deadline) -> list[str]:
        parts = _parse(topic)
        host, port = parts.hostname, parts.port or _PORTS[parts.scheme]
        try:
            with socket.create_connection((host, port), timeout=deadline.left()) as connection:
                if parts.scheme == "https":
                    connection.settimeout(deadline.left())
                    self._tls.wrap_socket(connection, server_hostname=host).close()
        except OSError as error:
            return [f'The sink "{self.name}" cannot connect to {_shown(topic)}: {_reason(error)}']
        return []


class _TimedBackend(httpcore.NetworkBackend if httpcore else object):  # type: ignore[misc]
    """Opens connections whose reads and writes end by the deadline of the thread."""

    def __init__(self, left: Any) -> None:
        self._left = left
        self._network = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Any = None,
    ) -> httpcore.NetworkStream:
        stream = self._network.connect_tcp(host, port, self._left(), local_address, socket_options)
        return TimedStream(stream, self._left)


def _read_limited(response: httpcore.Response) -> None:
    read = 0
    for part in response.iter_stream():
        read += len(part)
        if read > MAX_ANSWER_BYTES:
            return


def _parse(topic: str) -> Any:
    """Return the parts of a URL.

    Raises:
        AnswerRefused: it is not a URL that can be posted to.
    """
    try:
        parts = urlsplit(topic)
        is_valid = bool(parts.scheme in ("http", "https") and parts.hostname and parts.port != 0)
    except ValueError:
        is_valid = False
    if not is_valid or not topic.isascii() or not topic.isprintable() or " " in topic:
        raise AnswerRefused("The topic is not an http or https URL in ASCII. Correct TOPIC.")
    if "@" in parts.netloc:
        raise AnswerRefused(
            f"{_shown(topic)}: the URL contains a user. Remove it from TOPIC, and set the header "
            'Authorization in OPTIONS["headers"].'
        )
    return parts


def _shown(topic: str) -> str:
    """Return the URL without user and query, which may contain credentials."""
    try:
        parts = urlsplit(topic)
    except ValueError:
        return "The URL"
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _reason(error: Exception) -> str:
    """Return the reason in words: of the operating system, of TLS, or the kind of the error."""
    cause = error.args[0] if error.args and isinstance(error.args[0], OSError) else error
    if isinstance(cause, ssl.SSLError):
        return f"TLS failed: {str(cause)[:150]}."
    if isinstance(cause, TimeoutError):
        return "no answer within the time limit."
    if isinstance(cause, OSError) and cause.strerror:
        return f"{cause.strerror}."
    return f"{str(error) or type(error).__name__}".rstrip(".") + "."
