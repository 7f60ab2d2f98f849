"""The sides of the comparisons: which package of `benchmarks/project`, with which Python."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

#: Lets Celery keep its database connection from task to task; without it each task opens its own.
TUNED = {"BENCHMARK_DB_REUSE": "1000000"}


@dataclass(frozen=True)
class Side:
    """A package with `settings`, `publishing.publish` and, where there is a worker, `celery`.

    `commands` are management commands that run beside the worker, such as a relay.
    """

    name: str
    package: str
    environment: Mapping[str, str] = field(default_factory=dict)
    python: str = sys.executable
    has_worker: bool = True
    commands: Sequence[Sequence[str]] = ()

    @property
    def settings(self) -> str:
        return f"{self.package}.settings"

    def having(self, **environment: str) -> Side:
        """Return the side with more in its processes' environment."""
        return replace(self, environment={**self.environment, **environment})


def ours(**outbox: object) -> Side:
    """The outbox, with settings of its own (`OUTBOX`) beside the defaults."""
    return Side("outbox", "benchmarks.project.ours", {**TUNED, "OUTBOX": json.dumps(outbox)})


def local(*, processes: int) -> Side:
    """Return the outbox without a broker: `outbox work` with so many processes."""
    return replace(
        ours(TRANSPORTS=["local"]),
        name="outbox, no broker",
        has_worker=False,
        commands=[("outbox", "work", "--processes", str(processes))],
    )


#: The outbox where its relay runs the handler itself: `@subscribe(..., inline=True)`.
INLINE = replace(ours().having(BENCHMARK_INLINE="1"), name="outbox, express")

#: `transaction.on_commit(task.delay)`: the usual way without an outbox.
TUNED_CELERY = Side("on_commit(delay), tuned", "benchmarks.project.plain", TUNED)
UNTUNED_CELERY = Side("on_commit(delay), untuned", "benchmarks.project.plain")
