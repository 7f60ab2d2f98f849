"""Two shapes of the relay, from commit to the handler's commit: a loop, or a task per nudge.

    .venv/bin/python -m benchmarks.relay_shape [pairs]

On PostgreSQL, 20 events a second, one worker process, the shapes in turn (A B A B). Prints Markdown
and, as its last line, JSON: the loop's median as a part of the task's. See docs/decisions/0001.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

from tests.chaos.stack import Stack, running_stack

EVENTS = 220
WARM_UP = 20
PAUSE = 0.05

#: The rejected shape: no loop to speak of, and each nudge is the task `outbox.relay`.
TASK_SETTINGS = """
from tests.chaos.settings import *
from outbox import nudge

OUTBOX = {**OUTBOX, "FLOOR_SECONDS": 3600.0}

def _send(connection):
    from outbox.tasks import run_relay
    run_relay.apply_async(queue="outbox", retry=False, connection=connection)

nudge._send = _send
"""

EMIT = f"""
import time
import django
django.setup()
from uuid import uuid4
from django.db import transaction
from outbox import emit
from tests.chaos.ground.events import Echoed
for _ in range({EVENTS}):
    with transaction.atomic():
        emit(Echoed(thing_id=uuid4()))
    time.sleep({PAUSE})
time.sleep(1)
"""

MILLISECONDS = """
SELECT extract(epoch FROM d.settled_at - e.emitted_at)::float * 1000
FROM outbox_delivery d JOIN outbox_event e ON e.seq = d.event_id ORDER BY e.seq
"""


def measure(shape: str) -> list[float]:
    """Return the milliseconds of each event, in order, the warm-up left out."""
    with (
        tempfile.TemporaryDirectory() as folder,
        running_stack(
            Path(folder), settings="tests.chaos.settings", database="postgresql"
        ) as stack,
    ):
        if shape == "task":
            _use_task(stack)
        stack.start_relay()
        stack.start_worker(queues="ground", concurrency=1)
        stack.run("-c", EMIT)
        stack.wait_until(lambda: len(stack.query(MILLISECONDS)) == EVENTS, "all are handled")
        time.sleep(0.5)
        return [row[0] for row in stack.query(MILLISECONDS)][WARM_UP:]


def _use_task(stack: Stack) -> None:
    (stack.folder / "task_settings.py").write_text(TASK_SETTINGS)
    stack.environment |= {
        "DJANGO_SETTINGS_MODULE": "task_settings",
        "PYTHONPATH": str(stack.folder),
    }


def main() -> None:
    pairs = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    found: dict[str, list[float]] = {"loop": [], "task": []}
    for _ in range(pairs):
        for shape in found:
            found[shape] += measure(shape)
    print("| ms from commit to the handler's commit | p50 | p99 |\n| --- | --- | --- |")
    for shape, values in found.items():
        cuts = statistics.quantiles(values, n=100)
        print(f"| {shape} | {cuts[49]:.1f} | {cuts[98]:.1f} |")
    medians = {shape: statistics.median(values) for shape, values in found.items()}
    print(json.dumps({"loop_vs_task_p50": round(medians["loop"] / medians["task"], 2)}))


if __name__ == "__main__":
    main()
