"""The web server: gunicorn runs the processes, waitress reads the requests.

A request reaches a thread only after all of its bytes have arrived, and the loop sends the
response. So a slow client occupies a connection, but no thread. Each connection has time limits.
See docs/decisions/0033-waitress-reads-the-requests.md.

`gunicorn.conf.py` selects this worker. `waitress.adjustments` explains the options.
"""

from __future__ import annotations

import logging
import os
import resource
import time
from collections.abc import Callable, Iterable
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

from django.conf import settings
from gunicorn.config import Config  # type: ignore[import-untyped]  # gunicorn has no types
from gunicorn.glogging import Logger as BaseLogger  # type: ignore[import-untyped]  # nor here
from gunicorn.workers.base import Worker as BaseWorker  # type: ignore[import-untyped]  # nor here
from waitress import wasyncore  # type: ignore[import-untyped]  # waitress has no types
from waitress.channel import HTTPChannel  # type: ignore[import-untyped]  # nor here
from waitress.parser import HTTPRequestParser  # type: ignore[import-untyped]  # nor here
from waitress.server import BaseWSGIServer, create_server  # type: ignore[import-untyped]  # nor
from waitress.task import ErrorTask, WSGITask  # type: ignore[import-untyped]  # nor here

from shop.logs import without_links

#: Maximum bytes of the request line with all headers.
MOST_HEADER_BYTES = 32 * 1024
#: Seconds in which a client must have received a whole response.
RESPONSE_SECONDS = 300.0
#: Open files of a process besides its connections: listeners, database, static files, pipes.
OTHER_FILES = 128
#: The share of the connections above which idle ones are closed at once.
CROWDED = 0.75
#: Seconds between two checks of the connections.
TICK = 1.0
#: Seconds that idle threads have to end after the last request.
THREADS_END_WITHIN = 1.0

logger = logging.getLogger(__name__)


class Logger(BaseLogger):  # type: ignore[misc]  # gunicorn has no types
    """Writes access lines without the secrets of links, in each format."""

    def atoms(self, *parts: Any) -> dict[str, Any]:
        """Return gunicorn's parts of an access line, masked."""
        return {
            name: without_links(value) if isinstance(value, str) else value
            for name, value in super().atoms(*parts).items()
        }


class Parser(HTTPRequestParser):  # type: ignore[misc]  # waitress has no types
    """Parses one request at a time.

    A request that was sent before the response to the previous one is dropped, and the connection
    is closed after that response. Many responses would fill the memory, and then block a thread.
    """

    def received(self, data: bytes) -> int:
        """Parse bytes; return the number of bytes that were consumed."""
        taken = int(super().received(data))
        if self.completed and data[taken:].strip():
            self.headers["CONNECTION"] = "close"
            return len(data)
        return taken


class Task(WSGITask):  # type: ignore[misc]  # waitress has no types
    """Runs the application for a complete request."""

    def get_environment(self) -> dict[str, Any]:
        """Return the WSGI environment, with the path exactly as the client sent it."""
        environ: dict[str, Any] = super().get_environment()
        # waitress merges leading slashes: `//admin/` would pass a proxy's rule about `/admin/`.
        environ["PATH_INFO"] = self.request.path
        environ["RAW_URI"] = environ["REQUEST_URI"]  # gunicorn's name, for its access log
        return environ


class Refusal(ErrorTask):  # type: ignore[misc]  # waitress has no types
    """Answers an unacceptable request: 400, 413, 431, 501."""

    def execute(self) -> None:
        """Answer, and write one line to the log."""
        error = self.request.error
        client = self.channel.addr[0]
        logger.info("Refused a request from %s: %d %s", client, error.code, error.reason)
        super().execute()


class Channel(HTTPChannel):  # type: ignore[misc]  # waitress has no types
    """A connection that records since when its client has been sending or reading."""

    parser_class = Parser
    task_class = Task
    error_task_class = Refusal
    receiving_since: float | None = None
    responding_since: float | None = None

    def received(self, data: bytes) -> bool:
        """Parse bytes; record when the first byte of a request arrived."""
        before = self.request
        taken = bool(super().received(data))
        if self.request is None:
            self.receiving_since = None
        elif self.request is not before:
            self.receiving_since = time.time()
        return taken

    def service(self) -> None:
        """Run the request in this thread; the loop sends the rest of the response."""
        self.responding_since = time.time()
        super().service()

    @property
    def is_idle(self) -> bool:
        """Return whether nothing is being received, handled or sent."""
        return not (self.requests or self.total_outbufs_len or self.receiving_since)

    def is_overdue(self, now: float, *, idle_seconds: float) -> bool:
        """Return whether the client has used up its time. The application's time does not count."""
        if self.total_outbufs_len:
            is_stalled = bool(now - self.last_activity > settings.REQUEST_SECONDS)
            return is_stalled or now - (self.responding_since or now) > RESPONSE_SECONDS
        if self.requests:
            return False
        if self.receiving_since is not None:
            return bool(now - self.receiving_since > settings.REQUEST_SECONDS)
        return bool(now - self.last_activity > idle_seconds)


class Worker(BaseWorker):  # type: ignore[misc]  # gunicorn has no types
    """A process of gunicorn whose sockets are served by waitress.

    The options `threads`, `worker_connections`, `keepalive`, `backlog`, `timeout`,
    `graceful_timeout`, `max_requests` and the access log work as in gunicorn's own workers.
    """

    _map: dict[int, Any] = {}  # descriptor: listener or connection; empty until `run`

    @classmethod
    def check_config(cls, cfg: Config, log: Any) -> None:
        """Raise RuntimeError for an option that this worker cannot honour."""
        if cfg.is_ssl:
            raise RuntimeError("This worker does not support TLS. Remove certfile and keyfile.")
        if len({isinstance(address, str) for address in cfg.address}) > 1:
            raise RuntimeError(
                "This worker serves either TCP ports or Unix sockets. Bind to one kind only."
            )

    def run(self) -> None:
        """Serve until a signal comes, then let requests in progress end."""
        self._map = {}
        self._next_look = 0.0
        server = create_server(self, map=self._map, **self._adjustments())
        for listener in self._listeners():
            listener.channel_class = Channel
        while self.alive and self.ppid == os.getppid():
            self._turn(TICK)
        self._drain()
        server.task_dispatcher.shutdown(timeout=THREADS_END_WITHIN)

    def handle_exit(self, sig: int, frame: Any) -> None:
        """Handle SIGTERM: stop without waiting for the next tick."""
        super().handle_exit(sig, frame)
        for listener in self._listeners():
            listener.pull_trigger()

    def __call__(
        self, environ: dict[str, Any], start_response: Callable[..., Any]
    ) -> Iterable[bytes]:
        """Call the WSGI application; write gunicorn's access line."""
        began = time.monotonic()
        answer = SimpleNamespace(status="500", headers=[], sent=None)

        def start(status: str, headers: list[tuple[str, str]], *error: Any) -> Any:
            answer.status, answer.headers = status, headers
            answer.sent = dict(headers).get("Content-Length")
            return start_response(status, headers, *error)

        try:
            body: Iterable[bytes] = self.wsgi(environ, start)
        finally:
            seconds = timedelta(seconds=time.monotonic() - began)
            self.log.access(answer, _sent_headers(environ), environ, seconds)
            self._count()
        return body

    def _adjustments(self) -> dict[str, Any]:
        most_bytes = settings.MOST_BODY_BYTES + 1  # waitress refuses what reaches its limit
        return {
            "sockets": [socket.sock for socket in self.sockets],
            "threads": self.cfg.threads,
            "backlog": self.cfg.backlog,
            "connection_limit": self._most_connections(),
            "max_request_header_size": MOST_HEADER_BYTES,
            "max_request_body_size": most_bytes,
            "inbuf_overflow": most_bytes,  # a body stays in memory
            # waitress counts from the last byte, which a client can delay: see `is_overdue`.
            "channel_timeout": 24 * 3600,
            "cleanup_interval": 24 * 3600,
            # `shop.proxies` decides which headers to trust.
            "clear_untrusted_proxy_headers": False,
            "log_socket_errors": False,  # a client may hang up at any time
            "asyncore_use_poll": True,  # select() is limited to descriptors up to 1023
            "ident": None,
        }

    def _listeners(self) -> list[BaseWSGIServer]:
        return [one for one in list(self._map.values()) if isinstance(one, BaseWSGIServer)]

    def _channels(self) -> list[Channel]:
        return [one for one in list(self._map.values()) if isinstance(one, Channel)]

    def _most_connections(self) -> int:
        files, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        return max(1, min(int(self.cfg.worker_connections), files - OTHER_FILES))

    def _turn(self, seconds: float) -> None:
        self.notify()
        wasyncore.loop(timeout=seconds, use_poll=True, map=self._map, count=1)
        if (now := time.time()) >= self._next_look:
            self._next_look = now + TICK
            self._close_overdue(now)

    def _close_overdue(self, now: float) -> None:
        channels = self._channels()
        is_crowded = len(channels) > CROWDED * self._most_connections()
        idle_seconds = TICK if is_crowded else self.cfg.keepalive
        overdue = [one for one in channels if one.is_overdue(now, idle_seconds=idle_seconds)]
        slow = [one for one in overdue if not one.is_idle]
        for channel in overdue:
            channel.handle_close()
        if slow:
            text = "Closed %d connections of slow clients, such as %s"
            logger.info(text, len(slow), slow[0].addr[0])

    def _drain(self) -> None:
        """Accept no more connections; give requests in progress `graceful_timeout` seconds."""
        for listener in self._listeners():
            listener.accepting = False
        deadline = time.monotonic() + self.cfg.graceful_timeout
        while time.monotonic() < deadline:
            for channel in self._channels():
                if channel.is_idle:
                    channel.handle_close()
            if not self._channels():
                return
            self._turn(0.1)

    def _count(self) -> None:
        self.nr += 1
        if self.nr >= self.max_requests:  # another thread may have counted meanwhile
            self.log.info("Restarting this process after %d requests.", self.nr)
            self.alive = False


def _sent_headers(environ: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the request's headers under their own names, for gunicorn's access log."""
    return [
        (name.removeprefix("HTTP_").replace("_", "-"), str(value))
        for name, value in environ.items()
        if name.startswith("HTTP_")
    ]
