"""Options and errors of confluent-kafka, and producers in forked processes."""

from __future__ import annotations

import ctypes
import os
import re
from collections.abc import Collection, Mapping
from typing import Any
from weakref import WeakSet

from django.core.exceptions import ImproperlyConfigured

from outbox.options import number

#: librdkafka's default of message.max.bytes.
DEFAULT_MAX_BYTES = 1_000_000

PROPERTIES = "https://github.com/confluentinc/librdkafka/blob/master/CONFIGURATION.md"

#: Values of the options that a sink requires, by each of their names.
_REQUIRED = {
    "acks": ("all", "-1"),
    "request.required.acks": ("all", "-1"),
    "enable.idempotence": ("true",),
}
_SERVERS = ("bootstrap.servers", "metadata.broker.list")
#: The name of a property in an error of librdkafka, which may also contain the property's value.
_PROPERTY = re.compile(
    r'property:? "([\w.]+)"|`([\w.]+)`|Failed to create [\w ]+: ([a-z]+(?:\.[a-z]+)+)'
)
_CONSEQUENCES = {"_ALL_BROKERS_DOWN", "_TRANSPORT", "_TIMED_OUT"}
_FORBIDDEN = {
    "transactional.id": "the sink opens no transactions, so consumers would see no message",
    "default.topic.config": "its properties belong beside the others",
}


def require_client(user: str) -> None:
    """Raise `ImproperlyConfigured` if confluent-kafka is not installed.

    Args:
        user: who needs it: "The Kafka sink".
    """
    try:
        import confluent_kafka  # noqa: F401  only its presence matters
    except ImportError:
        raise ImproperlyConfigured(
            f'{user} needs confluent-kafka (extra "kafka"): pip install confluent-kafka.'
        ) from None


def refuse_bad_options(owner: str, options: Mapping[str, Any]) -> None:
    """Raise `ImproperlyConfigured` if Kafka could lose, repeat or hide messages, or has no address.

    Args:
        owner: whose options they are: 'sink "analytics"'.
        options: properties of librdkafka.
    """
    for name, allowed in _REQUIRED.items():
        if name in options and str(options[name]).lower() not in allowed:
            raise ImproperlyConfigured(
                f"OPTIONS of {owner} weaken {name}. Remove it: a message counts as stored only "
                "when all in-sync replicas have it, once and in order."
            )
    for name, reason in _FORBIDDEN.items():
        if name in options:
            raise ImproperlyConfigured(f"OPTIONS of {owner} set {name}. Remove it: {reason}.")
    if not any(options.get(name) for name in _SERVERS):
        raise ImproperlyConfigured(
            f'OPTIONS of {owner} lack "bootstrap.servers". Add the addresses of the brokers.'
        )


def max_bytes(owner: str, options: Mapping[str, Any]) -> int:
    """Return `message.max.bytes` of these options, or librdkafka's default."""
    return number(owner, options, "message.max.bytes", DEFAULT_MAX_BYTES)


def refused_options(owner: str, error: Exception) -> ImproperlyConfigured:
    """Return the error for options that the client refuses. It names a property, and no value."""
    found = _PROPERTY.search(str(error))
    refused = f"the property {found[found.lastindex or 0]}" if found else "a property"
    return ImproperlyConfigured(
        f"confluent-kafka refuses {refused} in OPTIONS of {owner}. Correct it, see {PROPERTIES}."
    )


def in_words(name: str) -> str:
    """Return an error's constant text and name. The text of a raised error may have an address."""
    from confluent_kafka import KafkaError

    code = getattr(KafkaError, name, None)
    return f"{KafkaError(code).str()} ({name})" if isinstance(code, int) else name


def most_specific(names: Collection[str]) -> str:
    """Return the error that explains most. Lost connections follow from each of the others."""
    return min(names, key=lambda name: (name in _CONSEQUENCES, name))


class ClientOfProcess:
    """Holds a producer or consumer, which a forked process must neither use nor destroy.

    Its threads do not exist in the forked process, so its destruction there would not end. After a
    fork `client` is None, and the parent's object is kept for ever.
    """

    def __init__(self) -> None:
        self.client: Any = None
        _held.add(self)


_held: WeakSet[ClientOfProcess] = WeakSet()


def _after_fork() -> None:
    for one in _held:
        if one.client is not None:
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(one.client))
            one.client = None


os.register_at_fork(after_in_child=_after_fork)
