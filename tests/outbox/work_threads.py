"""`outbox work` in threads of the test's process."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from outbox.local.process import WorkProcess
from outbox.transports import nudge


@contextmanager
def working(*, threads: int = 2, queues: tuple[str, ...] = ()) -> Iterator[WorkProcess]:
    """Run relays and pool in threads of this process, without signals and helpers."""
    process = WorkProcess(threads=threads, queues=queues, stop_seconds=10)
    workers = [
        threading.Thread(target=process._transport.work, daemon=True) for _ in range(threads)
    ]
    nudge.attach(process._nudge_own)
    for thread in workers:
        thread.start()
    process._relay.start()
    try:
        yield process
    finally:
        nudge.attach(None)
        process._transport.pool.close()
        process._relay.stop()
        process._hand_back_all()
        for thread in workers:
            thread.join(60)
