"""A stack without a broker: its workers are processes of `manage.py outbox work`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import NoReturn

from tests.chaos.wiretap import Wiretap


class NoBroker:
    """Neither started nor stopped. A process that looks for a broker finds a closed port."""

    command: Sequence[str] = ()
    variables: Mapping[str, str] = {}
    settings: Mapping[str, str] = {
        "OUTBOX": json.dumps({"TRANSPORTS": ["local"]}),
        "REDIS_URL": "redis://127.0.0.1:1/0",
        "AMQP_URL": "",
        "TEST_BROKER": "none",  # for the settings of the proving ground
    }

    def answers(self) -> bool:
        return True

    def wipe(self) -> None:
        """Do nothing: no message exists."""

    def forget(self) -> None:
        """Do nothing: no message exists."""

    def cut_clients(self) -> NoReturn:
        """Fail: there is no server whose clients could be cut off."""
        raise NotImplementedError("There is no broker.")

    def queue_length(self, queue: str) -> int:
        """Return 0: what a process claims is in its own memory."""
        return 0

    def wiretap(self) -> Wiretap:
        """Fail: there is no message to repeat."""
        raise NotImplementedError("There is no broker.")

    def clean_up(self) -> None:
        """Do nothing."""
