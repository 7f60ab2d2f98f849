"""The subcommands of `manage.py outbox`, in modules by subject."""

from __future__ import annotations

from . import (
    adopt,
    checks,
    contracts,
    deliveries,
    init,
    inspection,
    operations,
    receiving,
    relay,
    sinks,
    startapp,
    why,
    work,
)
from .common import Subcommand

SUBCOMMANDS: dict[str, Subcommand] = {
    "init": init.Init(),
    "startapp": startapp.StartApp(),
    "adopt": adopt.Adopt(),
    "status": inspection.Status(),
    "why": why.Why(),
    "tail": inspection.Tail(),
    "groups": inspection.Groups(),
    "blocked": inspection.Blocked(),
    "doctor": checks.Doctor(),
    "retry": deliveries.Retry(),
    "discard": deliveries.Discard(),
    "replay": deliveries.Replay(),
    "backfill": deliveries.Backfill(),
    "pause": deliveries.Pause(),
    "resume": deliveries.Resume(),
    "close-breaker": deliveries.CloseBreaker(),
    "end": deliveries.End(),
    "prune": operations.Prune(),
    "redact": operations.Redact(),
    "continue": operations.Continue(),
    "log": operations.Log(),
    "events": checks.Events(),
    "catalogue": checks.Catalogue(),
    "rehearse": checks.Rehearse(),
    "asyncapi": contracts.Asyncapi(),
    "diff": contracts.Diff(),
    "work": work.Work(),
    "relay": relay.Relay(),
    "sinks": sinks.Sinks(),
    "receive": receiving.Receive(),
    "correct": receiving.Correct(),
}
