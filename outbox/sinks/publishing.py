"""The bulk handler of each configured sink."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from outbox import subscriptions
from outbox.conf import conf
from outbox.events import is_pattern
from outbox.policy import Breaker
from outbox.receipt import BulkDelivery
from outbox.subscriptions import subscribe

from .base import Sink, SinkMessage, SinkUnavailable
from .configuration import SinkConfig, configured, sink_of
from .messages import message_of

#: After so many failures of this kind in a row, only probes are sent.
_BREAKER = Breaker(on=(SinkUnavailable,), failures=5, wait=5, longest=300)


def register_sinks() -> None:
    """Subscribe a bulk handler, named "sinks.<name>", for each sink of the settings.

    Raises:
        ImproperlyConfigured: a sink's settings are invalid.
    """
    subscriptions.registry[:] = [
        one for one in subscriptions.registry if one.function.__module__ != __name__
    ]
    for config in configured().values():
        subscribe(
            *_events(config),
            name=config.handler,
            queue=config.queue,
            bulk=True,
            ordered=config.ordered,
            batch=config.batch,
            window=config.window,
            lease=config.lease,
            attempts=config.attempts,
            breaker=_BREAKER,
        )(_handler(config))


def _events(config: SinkConfig) -> tuple[str, ...]:
    """Return the sink's events. A bare "*" leaves out events of sources, which may be an echo."""
    if "*" not in config.events:
        return config.events
    named = {one.partition(".")[0] for one in config.events if is_pattern(one)}
    sources = sorted(set(getattr(conf(lenient=True), "SOURCES", {})) - named)
    return (*config.events, *(f"!{label}.*" for label in sources))


def _handler(config: SinkConfig) -> Callable[[Sequence[BulkDelivery]], None]:
    lock = threading.Lock()  # a sink has one caller at a time

    def publish_events(deliveries: Sequence[BulkDelivery]) -> None:
        with lock:
            publish(config, deliveries)

    return publish_events


def publish(config: SinkConfig, deliveries: Sequence[BulkDelivery]) -> None:
    """Publish the events of deliveries, and settle each by its own acknowledgement.

    Raises:
        Exception: the sink acknowledged none of those that are not settled.
    """
    sink = sink_of(config)
    messages = _messages(config, deliveries, sink=sink)
    for start in range(0, len(messages), sink.max_batch):
        part = messages[start : start + sink.max_batch]
        results = sink.publish([message for _one, message in part], timeout=config.timeout)
        for (one, _message), error in zip(part, results, strict=True):
            one.done() if error is None else one.failed(error)


def _messages(
    config: SinkConfig, deliveries: Sequence[BulkDelivery], *, sink: Sink
) -> list[tuple[BulkDelivery, SinkMessage]]:
    messages = []
    for one in deliveries:
        try:
            message = message_of(config, one.event, sink=sink, replays=one.replays)
        except Exception as error:
            one.failed(error)
        else:
            messages.append((one, message))
    return messages
