"""The Redis sink: streams of Redis or Valkey, by redis-py.

One pipeline of XADD per call, without MULTI: each command has its own result. The entry's fields
are the attributes of CloudEvents by their names, and `data`. There is no binding of CloudEvents
for Redis.

An answered XADD is in the server's memory. `appendfsync` decides when it is on disk: with
"everysec" a power failure loses up to two seconds. The option `wait_fsync` waits for the disk.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from django.core.exceptions import ImproperlyConfigured

from outbox.options import number
from outbox.receipt import PermanentFailure

from .base import Sink, SinkMessage, SinkUnavailable
from .deadline import Deadline

try:
    import redis
    from redis.backoff import NoBackoff
    from redis.exceptions import NoPermissionError, RedisError, ResponseError
    from redis.retry import Retry
except ImportError:  # the constructor names the missing library
    if not TYPE_CHECKING:
        redis = None

#: Bytes of one value, by the default of `proto-max-bulk-len`.
MAX_BYTES = 512 * 1024 * 1024

_OWN_OPTIONS = {"url", "maxlen", "max_bytes", "wait_replicas", "wait_fsync"}

#: Errors of the server as a whole, by the first word of the answer.
_OF_THE_SERVER = (
    *("READONLY", "OOM", "MISCONF", "NOREPLICAS", "MASTERDOWN", "CLUSTERDOWN", "LOADING"),
    *("NOAUTH", "BUSY", "TRYAGAIN"),
)

Command = tuple[str | bytes | int, ...]


class EntryRefused(Exception):
    """The server refused this entry, for example because the key is no stream. It is retried."""


class RedisStreamSink(Sink):
    """Appends to streams. A message is acknowledged when its XADD was answered.

    Redis does not discard an entry that it has already: after a lost answer there are two entries
    with one `id`.

    Options:
        url: "redis://user:password@host:port/db", "rediss://" or "unix://".
        maxlen: approximate number of entries that a stream keeps. None: all.
        max_bytes: largest body; default 512 MiB.
        wait_replicas: replicas that must have each entry (WAIT). Fewer are an error.
        wait_fsync: True waits until the entry is on disk, also on those replicas (WAITAOF; needs
            `appendonly yes`, and Redis 7.2 or Valkey).
        Others are arguments of redis-py's connection, for example `ssl_ca_certs`.

    Raises:
        ImproperlyConfigured: redis-py is not installed, or an option is missing or invalid.
    """

    header_prefix: ClassVar[str] = ""
    max_bytes = MAX_BYTES
    max_batch = 1000

    def __init__(self, name: str, options: Mapping[str, Any]) -> None:
        super().__init__(name, options)
        if redis is None:
            raise ImproperlyConfigured(f'The Redis sink "{name}" needs redis (extra "redis").')
        if not options.get("url"):
            raise ImproperlyConfigured(f'The Redis sink "{name}" needs the option "url".')
        owner = f'the sink "{name}"'
        self.max_bytes = number(owner, options, "max_bytes", MAX_BYTES)
        self._replicas = (
            number(owner, options, "wait_replicas", 0) if options.get("wait_replicas") else 0
        )
        self._waits = bool(self._replicas or options.get("wait_fsync"))
        self._trim: Command = (
            ("MAXLEN", "~", number(owner, options, "maxlen", 0)) if options.get("maxlen") else ()
        )
        self._pool = self._parse_address()
        self._connection: Any = None
        self._pid = 0

    def publish(
        self, messages: Sequence[SinkMessage], *, timeout: float
    ) -> Sequence[Exception | None]:
        """Send one pipeline and read each answer. See `Sink.publish`."""
        limit = self.max_bytes
        fitting = [message for message in messages if len(message.body) <= limit]
        results = iter(self._append(fitting, Deadline(timeout)))
        return [
            next(results) if len(message.body) <= limit else _too_large(message, limit)
            for message in messages
        ]

    def _append(
        self, messages: Sequence[SinkMessage], deadline: Deadline
    ) -> list[Exception | None]:
        if not messages:
            return []
        commands = [self._xadd(message) for message in messages]
        answers = self._run([*commands, *self._wait(deadline)], deadline)
        results = [self._error_of(answer) for answer in answers[: len(messages)]]
        if self._waits:
            missing = self._missing_copies(answers[-1])
            results = [result or missing for result in results]
        if any(isinstance(result, SinkUnavailable) for result in results):
            self.close()  # so that the next call finds the new primary after a failover
        return results

    def check(self, topics: Sequence[str], *, timeout: float) -> Sequence[str]:
        """Return the problems of connection, login, role, memory policy, permissions and keys."""
        deadline = Deadline(timeout)
        try:
            role, information = self._run([("ROLE",), ("INFO",)], deadline)
            problems = self._problems_of_server(role, information)
            for topic in topics:
                problems += self._problems_of_stream(topic, deadline)
        except SinkUnavailable as error:
            return [str(error)]
        return problems

    def close(self) -> None:
        """Close the connection of this process."""
        connection, self._connection = self._connection, None
        if connection is not None and self._pid == os.getpid():
            connection.disconnect()

    def _parse_address(self) -> redis.ConnectionPool:
        others = {key: value for key, value in self.options.items() if key not in _OWN_OPTIONS}
        # RESP3 begins with HELLO, which an old Redis and some proxies do not know.
        others.setdefault("protocol", 2)
        try:
            pool = redis.ConnectionPool.from_url(
                self.options["url"], retry=Retry(NoBackoff(), 0), **others
            )
            pool.connection_class(**pool.connection_kwargs)
        except Exception:  # its text may quote the URL
            raise ImproperlyConfigured(
                f'The Redis sink "{self.name}" cannot read its OPTIONS. Check "url" and the '
                "arguments of redis-py."
            ) from None
        return pool

    def _xadd(self, message: SinkMessage) -> Command:
        fields = dict(message.headers)
        is_structured = fields.get("content-type", "").startswith("application/cloudevents")
        if "content-type" in fields and not is_structured:
            fields["datacontenttype"] = fields.pop("content-type")
        pairs = [part for pair in fields.items() for part in pair]
        return ("XADD", message.topic, *self._trim, "*", *pairs, "data", message.body)

    def _wait(self, deadline: Deadline) -> list[Command]:
        if not self._waits:
            return []
        milliseconds = max(int(deadline.left() * 900), 1)  # a tenth is left for the way back
        if self.options.get("wait_fsync"):
            return [("WAITAOF", 1, self._replicas, milliseconds)]
        return [("WAIT", self._replicas, milliseconds)]

    def _run(self, commands: Sequence[Command], deadline: Deadline) -> list[Any]:
        """Return the answer of each command, or its exception.

        Raises:
            SinkUnavailable: the first command was not answered.
        """
        answers: list[Any] = []
        try:
            connection = self._connected(deadline)
            connection.send_packed_command(connection.pack_commands(commands), check_health=False)
            for _ in commands:
                answers.append(self._answer(connection, deadline))
        except (RedisError, OSError) as error:
            self.close()
            unavailable = self._unavailable(error)
            if not answers:
                raise unavailable from None  # the error may quote the password, see _text
            answers += [unavailable] * (len(commands) - len(answers))
        except BaseException:  # a time limit may have interrupted it between two answers
            self.close()
            raise
        return answers

    def _answer(self, connection: Any, deadline: Deadline) -> Any:
        try:
            return connection.read_response(timeout=deadline.left())
        except ResponseError as error:
            return error

    def _connected(self, deadline: Deadline) -> Any:
        if self._connection is not None and self._pid == os.getpid():
            if _is_idle(self._connection):
                return self._connection
            self._connection.disconnect()
        self._pid = os.getpid()
        self._connection = self._pool.connection_class(**self._pool.connection_kwargs)
        self._connection.socket_timeout = deadline.left()
        self._connection.socket_connect_timeout = deadline.left()
        self._connection.connect()
        return self._connection

    def _error_of(self, answer: Any) -> Exception | None:
        if not isinstance(answer, Exception):
            return None
        if isinstance(answer, SinkUnavailable):
            return answer
        text = _text(answer)
        if text.startswith(_OF_THE_SERVER) or _refuses_the_command(answer):
            return self._unavailable(answer)
        return EntryRefused(text)

    def _missing_copies(self, answer: Any) -> Exception | None:
        """Return an error if the answer of WAIT or WAITAOF has fewer copies than required."""
        if isinstance(answer, Exception):
            return SinkUnavailable(f'Redis of the sink "{self.name}" did not wait: {_text(answer)}')
        local, replicas = answer if isinstance(answer, list) else (1, answer)
        if local < 1:
            return SinkUnavailable(
                f'Redis of the sink "{self.name}" has not written to disk in time.'
            )
        if replicas < self._replicas:
            return SinkUnavailable(
                f'Redis of the sink "{self.name}": {replicas} of {self._replicas} replicas have '
                "the entry. Check the replicas."
            )
        return None

    def _problems_of_server(self, role: Any, information: Any) -> list[str]:
        """Return problems that ROLE and INFO show. A user may lack permission for both."""
        problems = []
        kind = _plain(role[0]) if isinstance(role, list) and role else "master"
        if kind not in ("master", "primary"):
            problems.append(
                f'Redis of the sink "{self.name}" is a {kind.replace("slave", "replica")}. Set the '
                "address of the primary."
            )
        facts = _parse_information(information)
        if facts.get("maxmemory", "0") != "0" and facts.get("maxmemory_policy", "").startswith(
            "all"
        ):
            problems.append(
                f'Redis of the sink "{self.name}" may evict streams: maxmemory-policy is '
                f'{facts["maxmemory_policy"]}. Set "noeviction".'
            )
        if self.options.get("wait_fsync") and facts.get("aof_enabled") == "0":
            problems.append(
                f'Redis of the sink "{self.name}" has no append-only file, so wait_fsync cannot '
                'succeed. Set "appendonly yes".'
            )
        return problems

    def _problems_of_stream(self, topic: str, deadline: Deadline) -> list[str]:
        """Return problems of one key. An XADD with an invalid number shows them without effect."""
        attempt = ("XADD", topic, "MAXLEN", "check", "*", "check", "check")
        kind, probe = self._run([("TYPE", topic), attempt], deadline)
        if not isinstance(kind, Exception) and _plain(kind) not in ("stream", "none"):
            return [
                f'The key "{topic}" of the sink "{self.name}" has the type {_plain(kind)}, not '
                "stream. Delete it, or set another TOPIC."
            ]
        text = _text(probe) if isinstance(probe, Exception) else ""
        if isinstance(probe, NoPermissionError) or text.startswith((*_OF_THE_SERVER, "MOVED")):
            return [f'The sink "{self.name}" may not write to the stream "{topic}": {text}']
        return []

    def _unavailable(self, error: Exception) -> SinkUnavailable:
        return SinkUnavailable(f'Redis of the sink "{self.name}": {_text(error)}')


def _too_large(message: SinkMessage, limit: int) -> PermanentFailure:
    return PermanentFailure(f"The body has {len(message.body)} bytes; the limit is {limit}.")


def _is_idle(connection: Any) -> bool:
    """Return whether it is open, and no data waits that nobody asked for."""
    try:
        return not connection.can_read(timeout=0)
    except (RedisError, OSError):
        return False


def _text(error: Exception) -> str:
    """Return the server's or the library's text, with the code. Neither contains the URL.

    A server quotes the arguments of a command that it does not know: of HELLO, the password.
    """
    code = getattr(error, "status_code", None) or ""
    text = str(error).partition(", with args beginning with")[0].strip() or type(error).__name__
    text = text if not code or text.startswith(code) else f"{code} {text}"
    return text if text.endswith(".") else f"{text}."


def _refuses_the_command(error: Exception) -> bool:
    """Return whether the user has no permission for XADD at all, rather than for one key."""
    return isinstance(error, NoPermissionError) and "permissions to run" in str(error)


def _plain(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def _parse_information(answer: Any) -> dict[str, str]:
    if not isinstance(answer, bytes | str):
        return {}
    lines = (line.partition(":") for line in _plain(answer).splitlines() if ":" in line)
    return {name: value.strip() for name, _, value in lines}
