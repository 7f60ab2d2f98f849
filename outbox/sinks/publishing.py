"""The bulk handler of each configured sink."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence

from outbox import subscriptions, tenants
from outbox.conf import conf
from outbox.policy import Breaker, NotCalled
from outbox.receipt import BulkDelivery
from outbox.subscriptions import subscribe

from .base import Sink, SinkMessage, SinkUnavailable
from .configuration import SinkConfig, configured, sink_of
from .deadline import Deadline
from .messages import message_of

#: Most bytes of the messages of one call.
_MOST_BYTES = 8 * 2**20
#: Parts of the lease: a publication sends no message after the first, and ends with the second. The
#: rest is for the receipts.
_LAST_START, _END = 0.5, 0.6
#: After so many failures of this kind in a row, only probes are sent.
_BREAKER = Breaker(on=(SinkUnavailable,), failures=5, wait=5, longest=300)


class SinkBusy(NotCalled):
    """Other threads of this process have used the sink for too long. Nothing was sent."""


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
            *config.selectors,
            name=config.handler,
            queue=config.queue,
            bulk=True,
            ordered=config.ordered,
            batch=config.batch,
            window=config.window,
            lease=config.lease,
            attempts=config.attempts,
            breaker=_BREAKER,
            settled_by=config.settled_by,
        )(_handler(config))


def _handler(config: SinkConfig) -> Callable[[Sequence[BulkDelivery]], None]:
    lock, began_at = threading.Lock(), [0.0]  # a sink has one caller at a time

    @tenants.of_all_tenants
    def publish_events(deliveries: Sequence[BulkDelivery]) -> None:
        limit = Deadline(config.lease * _END)
        # Threads cannot be interrupted, so the wait must end before the lease.
        if not lock.acquire(timeout=config.timeout):
            if time.monotonic() - began_at[0] > config.lease:
                raise SinkUnavailable(
                    f'A call of the sink "{config.name}" has not returned within its lease of '
                    f"{config.lease:g} s. Nothing was sent. If this persists, restart the process."
                )
            raise SinkBusy(
                f'The sink "{config.name}" has been busy with other events for '
                f"{config.timeout:g} s. Nothing was sent; these events are sent later."
            )
        began_at[0] = time.monotonic()
        try:
            publish(config, deliveries, limit=limit)
        finally:
            lock.release()

    return publish_events


def publish(config: SinkConfig, deliveries: Sequence[BulkDelivery], *, limit: Deadline) -> None:
    """Publish the events of deliveries, and settle each by its own acknowledgement.

    Args:
        config: the sink's settings.
        deliveries: the deliveries.
        limit: the time at which the last call of the sink must have returned.

    Raises:
        SinkUnavailable: the system was unavailable for all messages of a call, or the time has
            passed. The deliveries that are not settled were not sent.
        Exception: the sink acknowledged none of those that are not settled.
    """
    sink = sink_of(config)
    results: Sequence[Exception | None] = ()
    for part in _parts(config, deliveries, sink=sink):
        _refuse_next_call(config, results, limit=limit)
        timeout = min(config.timeout, limit.left())
        results = sink.publish([message for _one, message in part], timeout=timeout)
        for (one, _message), error in zip(part, results, strict=True):
            one.done() if error is None else one.failed(error)


def _refuse_next_call(
    config: SinkConfig, results: Sequence[Exception | None], *, limit: Deadline
) -> None:
    """Raise `SinkUnavailable` if no further call should follow a call with these results."""
    if results and all(isinstance(one, SinkUnavailable) for one in results):
        raise SinkUnavailable(
            f'The sink "{config.name}" was unavailable for all events of the call before. These '
            f"events were not sent: {results[-1]}"
        ) from results[-1]
    if limit.left() < config.lease * (_END - _LAST_START):
        raise SinkUnavailable(
            f'The sink "{config.name}" is slow: half of the lease of {config.lease:g} s has '
            "passed. These events were not sent; they are sent later. Set a smaller BATCH, or a "
            "longer LEASE_SECONDS."
        )


def _parts(
    config: SinkConfig, deliveries: Sequence[BulkDelivery], *, sink: Sink
) -> Iterator[list[tuple[BulkDelivery, SinkMessage]]]:
    """Yield the messages of each call, limited in number and bytes. Build those of one call."""
    part: list[tuple[BulkDelivery, SinkMessage]] = []
    size, settings = 0, conf(lenient=True)
    for one in deliveries:
        try:
            message = message_of(
                config, one.event, sink=sink, replays=one.replays, settings=settings
            )
            more = message.size
        except Exception as error:
            one.failed(error)
            continue
        if part and (len(part) == config.batch or size + more > _MOST_BYTES):
            yield part
            part, size = [], 0
        part.append((one, message))
        size += more
    if part:
        yield part
