"""A transport without a broker, and relay loops that use it."""

from __future__ import annotations

from collections.abc import Callable

from outbox.models import Delivery
from outbox.relay.loop import RelayLoop
from outbox.transports.base import Message
from outbox.transports.inline import InlineTransport
from outbox.worker.delivery import deliver_started
from tests.processes import eventually


class FakeTransport(list[Message]):
    """Keeps the dispatched messages.

    Attributes:
        error: raised instead of taking a message, if set.
        is_there: called to return whether it is available.
    """

    error: Exception | None = None

    def __init__(self) -> None:
        super().__init__()
        self.is_there: Callable[[], bool] = lambda: True

    def dispatch(self, message: Message) -> None:
        if self.error is not None:
            raise self.error
        self.append(message)

    def nudge(self) -> None:
        raise NotImplementedError

    def is_available(self) -> bool:
        return self.is_there()

    def wait_for(self, *numbers: int) -> None:
        """Wait for messages of so many deliveries each."""
        sizes = list(numbers)
        eventually(lambda: [len(one.pairs) for one in self] == sizes, f"{sizes}")


def relay_loop(
    name: str = "relay@host",
    *,
    transport: FakeTransport | None = None,
    deliver: Callable[[Delivery], object] = deliver_started,
) -> RelayLoop:
    """Return a loop that is not started."""
    if transport is None:  # an empty one is false
        transport = FakeTransport()
    return RelayLoop(name, transport=transport, inline=InlineTransport(name, deliver))
