"""Checks of the hosts of Celery's broker, by `manage.py check --deploy`. The messages:

E084 a command to a Redis that is gone has no time limit
E085 a worker waits for messages of a Redis that is gone
E086 Sentinel is asked for a primary without a name
E087 the Sentinels have different credentials
E088 a Sentinel that is gone is asked many times
E089 connecting to a RabbitMQ that is gone has no time limit
E090 RabbitMQ may leave a publication without an answer for ever
E091 a process sends no task while the first of several RabbitMQ nodes is gone

They are about the project's own connections: those of its tasks, and of its workers. Connections
of the outbox's relay have time limits of their own. A broker on this host is not examined.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from typing import Any
from urllib.parse import urlsplit

from django.core.checks import CheckMessage, Error, register

from outbox.lost_hosts import LONGEST_SECONDS, idle_option, is_remote
from outbox.transports.names import celery_in_use

_OPTIONS = "broker_transport_options"
_REDIS, _SENTINEL = ("redis", "rediss", "sentinel"), "sentinel"
_RABBITMQ = ("amqp", "amqps", "pyamqp")
#: kombu's interval of health checks in seconds, unless it is set, and its wait for a message.
_HEALTH_SECONDS, _WAIT_SECONDS = 25, 1
#: The first release of kombu whose health checks notice a wait for messages that does not end.
_CHECKS_WAITS = (5, 7)
#: Seconds by which Linux probes a silent connection, if it has no values of its own.
_IDLE, _INTERVAL, _COUNT = 7200, 75, 9


@register("outbox", deploy=True)
def check_broker_hosts(**_kwargs: Any) -> list[CheckMessage]:
    """Find a broker whose lost host would stop a process for minutes, if the project uses one."""
    app = celery_in_use()
    if app is None:
        return []
    found: list[CheckMessage] = []
    for urls in _lists(app.conf):
        found += [one for one in _of_connection(app.conf, urls) if one not in found]
    return found


def _lists(conf: Any) -> Iterator[list[str]]:
    """Yield the URLs of each setting: a connection goes on only to those of its own."""
    for given in (conf.broker_url, conf.broker_read_url, conf.broker_write_url):
        parts = [given] if isinstance(given, str) else given or ()
        yield list(dict.fromkeys(url for one in parts for url in one.split(";")))


def _of_connection(conf: Any, urls: list[str]) -> list[CheckMessage]:
    options, found = dict(conf.broker_transport_options or {}), list[CheckMessage]()
    if any(url.startswith(f"{_SENTINEL}:") for url in urls):
        found += [*_master_name(options), *_credentials(urls), *_repetitions(urls, options)]
    if _has_remote(urls, _REDIS):
        found += [*_command(options), *_wait(options)]
    if _has_remote(urls, _RABBITMQ):
        found += [*_connect(conf, urls), *_publication(options)]
        found += _next_node(conf, urls, options)
    return found


def _has_remote(urls: list[str], schemes: tuple[str, ...]) -> bool:
    parts = [urlsplit(url) for url in urls]
    # A Sentinel on this host names a primary on another one.
    return any(
        one.scheme in schemes and (one.scheme == _SENTINEL or is_remote(one.hostname or ""))
        for one in parts
    )


def _command(options: Mapping[str, Any]) -> Iterator[CheckMessage]:
    answer = options.get("socket_timeout")
    connect = options.get("socket_connect_timeout") or answer
    for name, given in (("socket_timeout", answer), ("socket_connect_timeout", connect)):
        if not _is_short(given):
            yield Error(
                f'{_OPTIONS}["{name}"] is {given}. A process that sends a task or acknowledges a '
                "message waits for minutes, or for ever, if the host of Redis is gone.",
                hint=_hint(f'["{name}"] to 5', "redis_options()"),
                obj="settings",
                id="outbox.E084",
            )


def _wait(options: Mapping[str, Any]) -> Iterator[CheckMessage]:
    seconds = min(_silence(options), _health(options))
    if seconds > LONGEST_SECONDS:
        time = "for ever" if seconds == float("inf") else f"{seconds:g} s"
        yield Error(
            f"A worker that waits for messages waits {time} if the host of Redis is gone.",
            hint=_hint(
                '["socket_keepalive"] to True and ["socket_keepalive_options"] to those of '
                "tcp_options() of outbox.lost_hosts",
                "redis_options()",
            ),
            obj="settings",
            id="outbox.E085",
        )


def _silence(options: Mapping[str, Any]) -> float:
    """Return the seconds after which probes end a connection."""
    if not options.get("socket_keepalive"):
        return float("inf")
    given = options.get("socket_keepalive_options") or {}
    idle, interval, count = (
        given.get(getattr(socket, name, None), default)
        for name, default in (
            (idle_option(), _IDLE),
            ("TCP_KEEPINTVL", _INTERVAL),
            ("TCP_KEEPCNT", _COUNT),
        )
    )
    return float(idle + interval * count)


def _health(options: Mapping[str, Any]) -> float:
    """Return the seconds after which kombu ends a connection that brings no message."""
    interval = options.get("health_check_interval", _HEALTH_SECONDS)
    release = tuple(int(part) for part in version("kombu").split(".")[:2])
    if not interval or release < _CHECKS_WAITS:
        return float("inf")
    return float(_WAIT_SECONDS + 2 * interval)


def _master_name(options: Mapping[str, Any]) -> Iterator[CheckMessage]:
    if not options.get("master_name"):
        yield Error(
            f'The broker is a Sentinel, and {_OPTIONS}["master_name"] is not set. No process can '
            "connect.",
            hint=_hint('["master_name"] to the name in "sentinel monitor NAME ..."', ""),
            obj="settings",
            id="outbox.E086",
        )


def _credentials(urls: list[str]) -> Iterator[CheckMessage]:
    parts = [urlsplit(url) for url in urls if url.startswith(f"{_SENTINEL}:")]
    if len({(one.username, one.password, one.path.strip("/")) for one in parts}) > 1:
        yield Error(
            "The URLs of the Sentinels have different users, passwords or databases. Celery takes "
            "those of the URL that it tries, so a worker that goes on to another Sentinel cannot "
            "log in to Redis, or reads another database.",
            hint="Write the user, the password and the database of Redis into each URL of "
            "broker_url.",
            obj="settings",
            id="outbox.E087",
        )


def _repetitions(urls: list[str], options: Mapping[str, Any]) -> Iterator[CheckMessage]:
    given = options.get("sentinel_kwargs") or {}
    timeout = given.get("socket_timeout") if given else options.get("socket_timeout")
    if len(urls) > 1 and ("retry" not in given or not _is_short(timeout)):
        yield Error(
            "A process asks a Sentinel that is gone up to eleven times before it asks the next "
            "one, each time until the time limit: redis-py repeats requests by default.",
            hint=_hint(
                '["sentinel_kwargs"] to {"socket_timeout": 5, "retry": None}, with "password" if '
                "the Sentinels require one",
                "redis_options(master_name=...)",
            ),
            obj="settings",
            id="outbox.E088",
        )


def _connect(conf: Any, urls: list[str]) -> Iterator[CheckMessage]:
    given = conf.broker_connection_timeout
    if not _is_short(given, times=len(urls)):
        yield Error(
            f"broker_connection_timeout is {given} for {len(urls)} hosts of RabbitMQ. A process "
            "that connects to hosts that are gone waits for minutes.",
            hint="Set broker_connection_timeout to 3 (seconds, for each host).",
            obj="settings",
            id="outbox.E089",
        )


def _publication(options: Mapping[str, Any]) -> Iterator[CheckMessage]:
    missing = [one for one in ("read_timeout", "write_timeout") if not _is_short(options.get(one))]
    if missing:
        names = " and ".join(f'["{one}"]' for one in missing)
        yield Error(
            f"{_OPTIONS}{names} set no limit of {LONGEST_SECONDS} s. A process that sends a task "
            "waits for ever while RabbitMQ blocks publishers, or while its node does not answer.",
            hint=_hint(f"{names} to 5", "rabbitmq_options()"),
            obj="settings",
            id="outbox.E090",
        )


def _next_node(conf: Any, urls: list[str], options: Mapping[str, Any]) -> Iterator[CheckMessage]:
    each = float(conf.broker_connection_timeout or 0)
    given = float(options.get("connect_retries_timeout") or each)
    if len(urls) > 1 and given <= each * (len(urls) - 1):
        yield Error(
            f'{_OPTIONS}["connect_retries_timeout"] is {given:g} s, and each of {len(urls)} nodes '
            f"of RabbitMQ has {each:g} s to connect (broker_connection_timeout). A process that "
            "sends a task gives up after the first node that is gone, each time.",
            hint=_hint(
                f'["connect_retries_timeout"] to {each * len(urls) + 1:g} and ["max_retries"] to '
                f"{len(urls) - 1}",
                f"rabbitmq_options(nodes={len(urls)})",
            ),
            obj="settings",
            id="outbox.E091",
        )


def _is_short(given: Any, *, times: int = 1) -> bool:
    return bool(given) and 0 < float(given) * times <= LONGEST_SECONDS


def _hint(setting: str, function: str) -> str:
    others = f", or take all options from {function} of outbox.lost_hosts" if function else ""
    return f"Set {_OPTIONS}{setting}{others}."
