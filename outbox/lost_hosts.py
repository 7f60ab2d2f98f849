"""Options of clients with which a process notices a host that is gone, for the project's settings.

A host that loses power or its network closes no connection. What its peers notice depends on what
they do, and each case has an option of its own (tcp(7), libpq, redis-py, py-amqp):

    connect                        a time limit for connecting, without it two minutes
    send, and get no acknowledgement   TCP_USER_TIMEOUT, without it a quarter of an hour
    wait for data                  keepalive probes, without them for ever

Keepalive sends nothing while data is unacknowledged, and TCP_USER_TIMEOUT ends no connection that
has nothing to send. So both are needed. It imports neither Django nor a client.
"""

from __future__ import annotations

import socket
from typing import Any

#: Seconds to connect to one host. With several hosts each has this time, one after the other.
CONNECT_SECONDS = 5
CONNECT_SECONDS_OF_SEVERAL = 3
#: Seconds to wait for an answer of a broker.
ANSWER_SECONDS = 5
#: Seconds of silence before the first probe, between two probes, and the number of probes.
IDLE_SECONDS, PROBE_SECONDS, PROBES = 5, 2, 3
#: Milliseconds within which sent data must be acknowledged.
ACKNOWLEDGE_MILLISECONDS = 10_000

#: Longest time, in seconds, that `check --deploy` accepts until a lost host is noticed.
LONGEST_SECONDS = 60

_LOCAL = {"", "localhost", "::1", "[::1]"}


def postgresql_options(*, several_hosts: bool = False) -> dict[str, Any]:
    """Return `OPTIONS` for PostgreSQL in `DATABASES`: a lost host is noticed after ten seconds.

    Args:
        several_hosts: HOST names several, separated by commas. A connection is then made to the one
            that accepts writes. Connecting to each of them has a shorter time limit.
    """
    options = {
        "connect_timeout": CONNECT_SECONDS_OF_SEVERAL if several_hosts else CONNECT_SECONDS,
        "keepalives": 1,
        "keepalives_idle": IDLE_SECONDS,
        "keepalives_interval": PROBE_SECONDS,
        "keepalives_count": PROBES,
        "tcp_user_timeout": ACKNOWLEDGE_MILLISECONDS,
    }
    return {**options, "target_session_attrs": "read-write"} if several_hosts else options


def redis_options(*, master_name: str = "", sentinel_password: str = "") -> dict[str, Any]:
    """Return entries of Celery's `broker_transport_options` for Redis, Valkey or Sentinel.

    Args:
        master_name: the name under which Sentinel knows the primary; "" without Sentinel.
        sentinel_password: the password of the Sentinels themselves, if they require one.
    """
    to_a_server: dict[str, Any] = {
        "socket_timeout": ANSWER_SECONDS,
        "socket_connect_timeout": CONNECT_SECONDS_OF_SEVERAL,
        "socket_keepalive": True,
        "socket_keepalive_options": tcp_options(),
    }
    options = {**to_a_server, "health_check_interval": 10}
    if not master_name:
        return options
    return {
        **options,
        "master_name": master_name,
        "sentinel_kwargs": {
            **to_a_server,
            # redis-py repeats a request to a Sentinel ten times before it asks the next one.
            "retry": None,
            **({"password": sentinel_password} if sentinel_password else {}),
        },
    }


def rabbitmq_options(*, nodes: int = 1) -> dict[str, Any]:
    """Return entries of Celery's `broker_transport_options` for RabbitMQ.

    A publication is confirmed by RabbitMQ, or fails after five seconds.

    Args:
        nodes: the number of URLs in `broker_url`.
    """
    options: dict[str, Any] = {
        "confirm_publish": True,
        "read_timeout": ANSWER_SECONDS,
        "write_timeout": ANSWER_SECONDS,
        "socket_settings": tcp_options(),
    }
    if nodes == 1:
        return options
    # kombu gives up, and begins with the same node again, if all attempts take longer than one may.
    return {
        **options,
        "connect_retries_timeout": CONNECT_SECONDS * nodes + 1,
        "max_retries": nodes - 1,
    }


def tcp_options() -> dict[int, int]:
    """Return options of a TCP socket by their number, as far as this platform has them."""
    options = {
        idle_option(): IDLE_SECONDS,
        "TCP_KEEPINTVL": PROBE_SECONDS,
        "TCP_KEEPCNT": PROBES,
        "TCP_USER_TIMEOUT": ACKNOWLEDGE_MILLISECONDS,
    }
    return {
        getattr(socket, name): value for name, value in options.items() if hasattr(socket, name)
    }


def idle_option() -> str:
    """Return the name of the option for the silence before the first probe: macOS has another."""
    return "TCP_KEEPIDLE" if hasattr(socket, "TCP_KEEPIDLE") else "TCP_KEEPALIVE"


def is_remote(host: str) -> bool:
    """Return whether a name or address leads to another host, and is no path of a socket."""
    host = host.strip()
    return host not in _LOCAL and not host.startswith(("/", "@", "127."))
