"""The data of the map: events, handlers, subscriptions and emissions, and parts of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from .sequence import app_of


@dataclass(frozen=True)
class Arrow:
    """A subscription, with a note on it: its rate, or that it is paused.

    Attributes:
        rate: events a minute.
    """

    event: str
    handler: str
    note: str = ""
    is_held: bool = False
    rate: float = 0.0


@dataclass(frozen=True)
class Emission:
    """A handler emits an event; `rate` is a number of events a minute."""

    handler: str
    event: str
    rate: float = 0.0


@dataclass(frozen=True)
class Network:
    """The data of the map.

    Attributes:
        events: names of all events that are declared or subscribed to.
        handlers: pinned names of all handlers.
        arrows: subscriptions.
        emissions: which handlers emit which events.
        notes: text after an event's name, for example its rate.
        problems: by handler, the word for what is wrong with it: "failing".
    """

    events: Sequence[str]
    handlers: Sequence[str]
    arrows: Sequence[Arrow]
    emissions: Sequence[Emission] = ()
    notes: Mapping[str, str] = field(default_factory=dict)
    problems: Mapping[str, str] = field(default_factory=dict)

    @property
    def events_without_handler(self) -> list[str]:
        """Events without a subscription."""
        subscribed = {arrow.event for arrow in self.arrows}
        return [name for name in self.events if name not in subscribed]

    @property
    def handlers_without_event(self) -> list[str]:
        """Handlers without a declared event."""
        events = set(self.events)
        subscribed = {arrow.handler for arrow in self.arrows if arrow.event in events}
        return [name for name in self.handlers if name not in subscribed]

    @property
    def apps(self) -> list[str]:
        """The apps of all events and handlers."""
        return sorted({app_of(name) for name in (*self.events, *self.handlers)})

    @property
    def first_events(self) -> list[str]:
        """The events that begin a process: they have a handler, and no handler emits them."""
        emitted = {one.event for one in self.emissions}
        subscribed = {arrow.event for arrow in self.arrows}
        return [name for name in self.events if name in subscribed and name not in emitted]

    def of_app(self, app: str) -> Network:
        """Return the events and handlers of an app, with their direct causes and effects."""
        own = {name for name in (*self.events, *self.handlers) if app_of(name) == app}
        kept = own | {end for pair in self._pairs() if own.intersection(pair) for end in pair}
        return self._part(kept, lambda a, b: a in own or b in own)

    def of_process(self, name: str) -> Network:
        """Return an event or a handler with all its causes and all its effects."""
        pairs = list(self._pairs())
        effects = _reached(name, pairs)
        causes = _reached(name, [(b, a) for a, b in pairs])
        return self._part(
            effects | causes,
            lambda a, b: (a in effects and b in effects) or (a in causes and b in causes),
        )

    def _pairs(self) -> Iterable[tuple[str, str]]:
        yield from ((arrow.event, arrow.handler) for arrow in self.arrows)
        yield from ((one.handler, one.event) for one in self.emissions)

    def _part(self, kept: set[str], has_line: Callable[[str, str], bool]) -> Network:
        return replace(
            self,
            events=[name for name in self.events if name in kept],
            handlers=[name for name in self.handlers if name in kept],
            arrows=[one for one in self.arrows if has_line(one.event, one.handler)],
            emissions=[one for one in self.emissions if has_line(one.handler, one.event)],
        )


def _reached(start: str, pairs: Iterable[tuple[str, str]]) -> set[str]:
    after = defaultdict(list)
    for a, b in pairs:
        after[a].append(b)
    found, ahead = {start}, [start]
    while ahead:
        for following in after[ahead.pop()]:
            if following not in found:
                found.add(following)
                ahead.append(following)
    return found
