"""The external system of a sink or source: servers without credentials, address and bindings.

A backend is recognized by its module, or by that of a base class: `outbox.sinks.kafka`,
`outbox.sources.kafka` and so on. Bindings: https://github.com/asyncapi/bindings.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlsplit

Options = Mapping[str, Any]

#: A host that the settings do not name.
UNNAMED = "{host}"
_SAME = {"binary": "content-type", "structured": "content-type"}


@dataclass(frozen=True, kw_only=True)
class Address:
    """One server: "host:port" without credentials, and the path below it, or "".

    A part of the host that the settings do not name is a variable: "sqs.{region}.amazonaws.com".
    """

    host: str
    pathname: str = ""


@dataclass(frozen=True, kw_only=True)
class System:
    """The system behind one channel.

    Attributes:
        protocol: AsyncAPI's word for it.
        servers: its servers; empty if the options name none.
        address: the channel's address.
        channel: bindings of the channel.
        operation: bindings of an operation on it.
        message: bindings of a message.
        headers: schemas of the headers that each message has besides those of its format. Each
            schema has an example.
        content_type: by encoding, the header with the content type; "": it is no header.
    """

    protocol: str
    servers: Sequence[Address]
    address: str
    channel: Mapping[str, Any] = field(default_factory=dict)
    operation: Mapping[str, Any] = field(default_factory=dict)
    message: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    content_type: Mapping[str, str] = field(default_factory=lambda: _SAME)


def system_of(backend: type[Any], options: Options, topic: str, *, group: str = "") -> System:
    """Return the system of a backend.

    Args:
        backend: class of a sink or source.
        options: its `OPTIONS`. Only hosts, paths and names of exchanges are read.
        topic: destination or origin of the messages.
        group: consumer group of a source.
    """
    for base in backend.__mro__:
        parts = base.__module__.split(".")
        known = _SYSTEMS.get(parts[2]) if parts[:2] in _OURS and len(parts) > 2 else None
        if known:
            return _of_consumer(known(backend, options, topic), parts[1], topic, group)
    protocol = backend.__module__.rpartition(".")[2].replace("_", "-")
    return System(protocol=protocol, servers=(), address=topic)


def _of_consumer(system: System, room: str, topic: str, group: str) -> System:
    """Replace the bindings of a producer by those of a consumer, if it is a source."""
    if room != "sources":
        return system
    operation: dict[str, Any] = {}
    headers: Mapping[str, Mapping[str, Any]] = {}
    if system.protocol.startswith("kafka") and group:
        ids = {"type": "string", "enum": [group]}
        operation = {"kafka": {"groupId": ids, "bindingVersion": "0.5.0"}}
    elif system.protocol.startswith("http"):
        operation, headers = dict(system.operation), {**_MESSAGE_HEADERS, **_SIGNATURE}
    queue = {"is": "queue", "queue": {"name": topic}, "bindingVersion": "0.3.0"}
    is_amqp = system.protocol.startswith("amqp")
    return replace(
        system,
        operation=operation,
        channel={"amqp": queue} if is_amqp else system.channel,
        headers=headers,
    )


def _kafka(_backend: type[Any], options: Options, topic: str) -> System:
    servers = str(options.get("bootstrap.servers", options.get("metadata.broker.list", "")))
    is_encrypted = "SSL" in str(options.get("security.protocol", "")).upper()
    return System(
        protocol="kafka-secure" if is_encrypted else "kafka",
        servers=[_without_credentials(one) for one in servers.split(",") if one.strip()],
        address=topic,
        message={"kafka": {"key": {"type": "string"}, "bindingVersion": "0.5.0"}},
    )


def _amqp(_backend: type[Any], options: Options, topic: str) -> System:
    urls = [one for one in str(options.get("url", "")).split(";") if one.strip()]
    exchange = str(options.get("exchange", ""))
    described = {"name": exchange, "type": "topic", "durable": True}
    return System(
        protocol=_scheme(urls, "amqp"),
        servers=[_without_credentials(one) for one in urls],
        address=topic,
        channel={
            "amqp": {
                "is": "routingKey",
                **({"exchange": described} if exchange else {}),
                "bindingVersion": "0.3.0",
            }
        },
        operation={"amqp": {"deliveryMode": 2, "mandatory": True, "bindingVersion": "0.3.0"}},
        content_type={"binary": "", "structured": ""},  # a property of the message
    )


def _redis(_backend: type[Any], options: Options, topic: str) -> System:
    urls = [str(options["url"])] if options.get("url") else []
    return System(
        protocol=_scheme(urls, "redis"),
        servers=[_without_credentials(one) for one in urls],
        address=topic,
        content_type={"binary": "datacontenttype", "structured": "content-type"},
    )


def _nats(_backend: type[Any], options: Options, topic: str) -> System:
    given = options.get("servers", "nats://localhost:4222")
    urls = [given] if isinstance(given, str) else list(given)
    servers = [one for url in urls for one in str(url).split(",") if one.strip()]
    return System(
        protocol="nats",
        servers=[_without_credentials(one) for one in servers],
        address=topic,
        headers={"Nats-Msg-Id": _text(_DEDUPLICATION, _EXAMPLE_ID)},
    )


def _aws(backend: type[Any], options: Options, topic: str) -> System:
    """SNS topics are ARNs, SQS queues are URLs; the last part is the name."""
    service = str(getattr(backend, "service", "sqs"))
    short = topic.replace("/", ":").rpartition(":")[2]
    is_fifo = topic.endswith(".fifo")
    queue = {"queue": {"name": short, "fifoQueue": is_fifo}, "bindingVersion": "0.2.0"}
    order = {"ordering": {"type": "FIFO"}} if is_fifo else {}
    return System(
        protocol=service,
        servers=[_without_credentials(_aws_server(service, options, topic))],
        address=topic,
        channel={"sns": {"name": short, **order}} if service == "sns" else {"sqs": queue},
    )


def _aws_server(service: str, options: Options, topic: str) -> str:
    if options.get("endpoint_url"):
        return str(options["endpoint_url"])
    if "://" in topic:
        return f"https://{urlsplit(topic).netloc}"
    parts = topic.split(":")
    region = parts[3] if topic.startswith("arn:") and len(parts) > 3 else ""
    region = region or str(options.get("region_name") or "{region}")
    return f"{service}.{region}.amazonaws.com"


def _http(_backend: type[Any], options: Options, topic: str) -> System:
    """The topic is a URL, of which the query is left out: it may contain a token."""
    signature = _SIGNATURE if options.get("secrets") else {}
    parts = urlsplit(topic)
    return System(
        protocol=parts.scheme or "http",
        servers=[Address(host=_host(parts.netloc))] if parts.netloc else (),
        address=parts.path or ("/" if topic else ""),
        operation={"http": {"method": "POST", "bindingVersion": "0.3.0"}},
        headers={**_MESSAGE_HEADERS, **signature},
    )


def _text(description: str, example: str) -> dict[str, Any]:
    return {"type": "string", "description": description, "examples": [example]}


_EXAMPLE_ID = "0197f2a4-5c1e-7d3b-8a6f-0123456789ab"
_DEDUPLICATION = "Deduplication id: the event's id, and the number of a requested replay."
#: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
_MESSAGE_HEADERS = {
    "webhook-id": _text("Id of the message, the same at each attempt.", _EXAMPLE_ID),
    "webhook-timestamp": _text("Time of the attempt in seconds since 1970.", "1767259800"),
}
_SIGNATURE = {
    "webhook-signature": _text(
        "Signature of the id, the timestamp and the body, by Standard Webhooks.",
        "v1,K5oZfzN95Z9UVu1EsfQmfVNQhnkZ2pj9o9NDN/H/pI4=",
    )
}
_OURS = (["outbox", "sinks"], ["outbox", "sources"])
_SYSTEMS: Mapping[str, Callable[[type[Any], Options, str], System]] = {
    "amqp": _amqp,
    "aws": _aws,
    "http": _http,
    "kafka": _kafka,
    "nats": _nats,
    "redis_streams": _redis,
}


def _scheme(urls: Sequence[str], default: str) -> str:
    scheme = urlsplit(urls[0].strip()).scheme if urls else ""
    return scheme or default


def _without_credentials(url: str) -> Address:
    """Return host and path of "scheme://user:password@host:port/path?query", or of "host:port"."""
    parts = urlsplit(url.strip() if "://" in url else f"//{url.strip()}")
    return Address(host=_host(parts.netloc) or "localhost", pathname=parts.path.rstrip("/"))


def _host(netloc: str) -> str:
    return netloc.rpartition("@")[2]
