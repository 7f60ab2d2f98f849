"""Programs that measure inside one side's Django, and print one line of JSON.

Rows call them by `stage.call("benchmarks.probes.<name>", ...)`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable


def milliseconds(action: Callable[[], object]) -> float:
    """Return how long an action takes."""
    began = time.perf_counter()
    action()
    return (time.perf_counter() - began) * 1000


def print_json(found: object) -> None:
    """Print the line that the row reads."""
    print(json.dumps(found))
