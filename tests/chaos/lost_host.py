"""A process on a host that disappears: a relay during a pass, or a worker during a handler.

`python -m tests.chaos.lost_host pass|handler` prints "holding" when it holds its locks, and waits.
"""

from __future__ import annotations

import sys
import time
from typing import Any

import django


def hold(*_arguments: Any, **_options: Any) -> None:
    print("holding", flush=True)
    time.sleep(3600)


def main(where: str) -> None:
    django.setup()
    from outbox.deliveries import failpoints
    from outbox.relay import passes
    from outbox.worker.delivery import deliver

    if where == "pass":
        passes.fan_out = hold
        passes.relay_pass(publish=lambda message: None)
        return
    failpoints.arm(failpoints.BEFORE_RECEIPT, hold)
    for message in passes.relay_pass(publish=lambda message: None).messages:
        deliver(handler_name=message.handler, pairs=message.pairs, worker="lost")


if __name__ == "__main__":
    main(sys.argv[1])
