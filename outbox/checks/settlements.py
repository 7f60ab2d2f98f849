"""Checks of settlements across services. The messages:

W024 a sink has CONSUMERS, and no source could receive their reports
W025 a source has SETTLES_AS, and no sink publishes outbox.Settled
W026 an HTTP sink has CONSUMERS, and its receiver cannot see that a message is a replay
"""

from __future__ import annotations

from collections.abc import Iterator

from django.core.checks import CheckMessage, Warning
from django.core.exceptions import ImproperlyConfigured

from outbox.settlements.events import Settled
from outbox.sinks import configuration as sinks
from outbox.sinks.configuration import CLOUDEVENTS
from outbox.sources import configuration as sources

_HTTP = "outbox.sinks.http.HttpSink"


def check_settlements() -> Iterator[CheckMessage]:
    """Find sinks whose consumers cannot report, and sources whose reports are not published."""
    try:
        found, received = sinks.configured(), sources.configured()
    except ImproperlyConfigured:  # another check reports it
        return
    expecting = sorted(name for name, one in found.items() if one.settled_by)
    if expecting and not received:
        yield Warning(
            f'{", ".join(expecting)} in OUTBOX["SINKS"] has CONSUMERS, and OUTBOX["SOURCES"] has '
            "no source that receives their reports. Each of its events becomes a dead letter.",
            hint="Configure a source with the topic on which the consumers publish outbox.Settled.",
            obj="settings",
            id="outbox.W024",
        )
    for name in expecting:
        yield from _check_replays(found[name])
    settling = sorted(name for name, one in received.items() if one.settles_as)
    if settling and not any(one.accepts(Settled.event_name) for one in found.values()):
        yield Warning(
            f'{", ".join(settling)} in OUTBOX["SOURCES"] has SETTLES_AS, and no sink publishes '
            f"{Settled.event_name}. The other system is not informed.",
            hint=f'Add "{Settled.event_name}" to the EVENTS of a sink. "*" does not include it.',
            obj="settings",
            id="outbox.W025",
        )


def _check_replays(sink: sinks.SinkConfig) -> Iterator[CheckMessage]:
    """Find a sink whose replays have another id in the eyes of an `HttpSource`."""
    if sink.backend == _HTTP and sink.format == CLOUDEVENTS and sink.encoding != "structured":
        yield Warning(
            f'{sink.name} in OUTBOX["SINKS"] has CONSUMERS, and sends binary CloudEvents over '
            "HTTP. A replay that a missed deadline requests has an id of its own there, so a "
            "receiver with this outbox stores it as another event.",
            hint=f'Add "ENCODING": "structured" to {sink.name}.',
            obj="settings",
            id="outbox.W026",
        )
