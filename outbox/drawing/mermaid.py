"""A timeline as the source of a Mermaid sequence diagram, to paste into an issue or a page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from outbox.monitor.timeline import TimelineDelivery, TimelineEvent

from .sequence import app_of, short

_ARROWS = {"done": "->>", "dead": "-x", "discarded": "-x"}


def mermaid(events: Sequence[TimelineEvent]) -> str:
    """Return a timeline as a Mermaid `sequenceDiagram` (https://mermaid.js.org/syntax/).

    It has only names, states and numbers, and no payload. So it may be published.
    """
    return "\n".join(["sequenceDiagram", *_lines(events)]) + "\n"


def _lines(events: Sequence[TimelineEvent]) -> Iterator[str]:
    for event in events:
        app = app_of(event.name)
        if not event.deliveries:
            yield f"    Note over {app}: {short(event.name)}"
        for delivery in event.deliveries:
            arrow = _ARROWS.get(delivery.state, "--)")
            words = f"{short(event.name)} ({short(delivery.handler)}{_remark(delivery)})"
            yield f"    {app}{arrow}{app_of(delivery.handler)}: {words}"


def _remark(delivery: TimelineDelivery) -> str:
    retried = f", {delivery.attempts} attempts" if delivery.attempts > 1 else ""
    return retried if delivery.state == "done" else f"{retried}, {delivery.state}"
