"""The interface of a system at the edges: a real server, a proxy before it, what it has stored."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, ClassVar

from tests.chaos.edges.arrivals import Arrival
from tests.chaos.edges.modes import Distorted, Mode
from tests.chaos.edges.proxy import Loop
from tests.servers.server import Server

#: In a setting: the name of the process that reads it.
MEMBER = "{member}"
#: Content type of a message with a CloudEvent in its body.
CLOUDEVENT = "application/cloudevents+json"
#: What a proxy of TCP can do.
OF_TCP = (Mode.CUT, Mode.LATE, Mode.LOST, Mode.PARTIAL, Mode.DOUBLE, Mode.EXPIRED)

#: Sequences of arrivals. Within one of them, the first occurrences of a key are in order.
Sequences = list[list[Arrival]]


class System(ABC):
    """A system of the run.

    Attributes:
        name: for faults: "cut_kafka".
        server: its server. None: the run itself is the system.
        keeps_data: whether its server keeps acknowledged messages when it is killed.
        stand: its proxy.
        modes: what the proxy can do.
        sinks: entries of `OUTBOX["SINKS"]` by name.
        sources: entries of `OUTBOX["SOURCES"]` by name.
        of_guests: the entries that differ for a process that ends by SIGTERM and never returns.
        limited: sinks that an event of `TOO_LARGE` characters is too large for.
        unordered: sinks whose system promises no order.
    """

    name: ClassVar[str]
    keeps_data: ClassVar[bool] = True
    modes: ClassVar[Sequence[Mode]] = OF_TCP
    limited: ClassVar[Sequence[str]] = ()
    unordered: ClassVar[Sequence[str]] = ()
    server: Server | None = None
    stand: Distorted
    sinks: Mapping[str, dict[str, Any]]
    sources: Mapping[str, dict[str, Any]] = {}
    of_guests: Mapping[str, dict[str, Any]] = {}

    @abstractmethod
    def __init__(self, folder: Path, loop: Loop, cleanup: ExitStack) -> None:
        """Start the server and its proxy, and create topics and queues.

        Raises:
            ServerMissing: the server is not installed.
        """

    def serves_receivers(self) -> bool:
        """Return whether the source of a receiver that runs alone has begun."""
        return True

    @abstractmethod
    def arrivals(self) -> dict[str, Sequences]:
        """Return what each sink has published, after the end of the run."""

    def send(self, body: bytes, *, key: str, id: str) -> None:
        """Send a message to the topic of the source. It is accepted when this returns.

        Raises:
            Exception: it is unknown whether the message was accepted.
        """
        raise NotImplementedError(self.name)
