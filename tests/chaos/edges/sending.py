"""The load of the sources: other systems repeat each message until it is accepted."""

from __future__ import annotations

import json
import random
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from tests.chaos.edges.names import BERTHED, SHIPS, UNDECLARED

#: berthed: an event of the project. invalid: its data does not fit. broken: no CloudEvent, without
#: an id. undeclared: of a type that no class declares.
Kind = Literal["berthed", "invalid", "broken", "undeclared"]

POISON = 0.12  # share of messages that are not events of the project
REPEATS = 0.15  # share of messages that are sent again, later
BURSTS = (1, 1, 1, 1, 1, 1, 1, 1, 1, 12)  # messages at once, so that a batch has several


@dataclass(kw_only=True)
class Sent:
    """A message. `tries` counts how often it was sent, `is_accepted` whether a try succeeded."""

    id: str
    source: str
    kind: Kind
    ship: str
    number: int
    tries: int = 0
    is_accepted: bool = False

    @property
    def body(self) -> bytes:
        if self.kind == "broken":
            return f"no event: {self.id}".encode()
        return json.dumps(
            {
                "specversion": "1.0",
                "id": self.id,
                "source": "/port",
                "type": UNDECLARED if self.kind == "undeclared" else BERTHED,
                "data": {
                    "ship": self.ship,
                    "number": "many" if self.kind == "invalid" else self.number,
                    "message": self.id,
                },
            }
        ).encode()


#: Sends a body under a key and an id, and returns once it is accepted.
Send = Callable[..., None]


class Sender(threading.Thread):
    """Sends messages of one source, one after the other. A message is repeated until accepted.

    Args:
        source: its name.
        send: see `System.send`.
        rate: messages a second, and sometimes a burst.
        seed: decides what is sent.

    Attributes:
        sent: all messages.
        over: ends the thread.
    """

    def __init__(self, source: str, send: Send, *, rate: float, seed: int) -> None:
        super().__init__(daemon=True)
        self._source, self._send, self._rate = source, send, rate
        self._rng = random.Random(f"{seed} {source}")
        self._numbers: Counter[str] = Counter()
        self.sent: list[Sent] = []
        self.over = threading.Event()

    def run(self) -> None:
        while not self.over.wait(self._rng.uniform(0, 2 / self._rate)):
            for _ in range(self._rng.choice(BURSTS)):
                self._insist(self._next())

    def _next(self) -> Sent:
        if self.sent and self._rng.random() < REPEATS:
            return self._rng.choice(self.sent)
        is_poison = self._rng.random() < POISON
        kind: Kind = (
            self._rng.choice(["invalid", "broken", "undeclared"]) if is_poison else "berthed"
        )
        ship = self._rng.choice(SHIPS)
        self._numbers[ship] += 1
        message = Sent(
            id=f"{self._source}-{len(self.sent) + 1}",
            source=self._source,
            kind=kind,
            ship=ship,
            number=self._numbers[ship],
        )
        self.sent.append(message)
        return message

    def _insist(self, message: Sent) -> None:
        pause = 0.1
        while not self.over.is_set():
            message.tries += 1
            try:
                self._send(message.body, key=message.ship, id=message.id)
            except Exception:  # of any client library: it is not known whether it was accepted
                self.over.wait(pause)
                pause = min(2.0, pause * 2)
            else:
                message.is_accepted = True
                return
