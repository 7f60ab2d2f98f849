"""Handlers with one visible effect that die, wait or fail as their event demands."""

import os
import signal
import time
from contextlib import suppress
from pathlib import Path
from uuid import UUID

from outbox import Receipt, emit, subscribe

from .events import Echoed
from .models import Effect

#: In a relay that has this in its environment, they go express; elsewhere they do not.
INLINE = bool(os.environ.get("GROUND_INLINE"))


def die() -> None:
    """End this process as the kernel's out-of-memory killer does."""
    os.kill(os.getpid(), signal.SIGKILL)


def hang() -> None:
    """Wait for ever, whatever is raised meanwhile."""
    while True:
        with suppress(Exception):
            time.sleep(3600)


def wait_for_resume() -> None:
    """Wait until the test lets handlers continue. The time limit may end the wait earlier."""
    while not (Path(os.environ["GROUND_DIR"]) / "resume").exists():
        time.sleep(0.05)


def is_first(how: str, event_id: UUID) -> bool:
    """Return whether this event has this fault for the first time, on this machine."""
    folder = Path(os.environ["GROUND_DIR"])
    try:
        (folder / f"{how}-{event_id}").touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


@subscribe("ground.Struck", inline=INLINE, backoff_base=0.1, backoff_cap=0.5)
def record(event_id: UUID, thing_id: UUID, how: str) -> None:
    if how == "die_before_effects" and is_first(how, event_id):
        die()
    Effect.objects.create(handler="record", event_id=event_id)
    emit(Echoed(thing_id=thing_id))
    if how == "die_after_effects" and is_first(how, event_id):
        die()
    if how == "die_always":
        die()
    if how == "hang" and is_first(how, event_id):
        hang()
    if how == "pause_in_transaction" and is_first(how, event_id):
        time.sleep(3)
    if how == "pause_until_resumed":
        wait_for_resume()


@subscribe("ground.Struck", atomic=False, queue="ground.outside", backoff_base=0.1, backoff_cap=0.5)
def call_outside(event_id: UUID, how: str, receipt: Receipt) -> None:
    if how == "die_after_call" and is_first(how, event_id):
        die()
    with receipt:
        Effect.objects.create(handler="call_outside", event_id=event_id)
        if how == "die_in_receipt" and is_first(how, event_id):
            die()


@subscribe("ground.Queued", queue="ground.slow", window=40, batch=5)
def dawdle(event_id: UUID) -> None:
    time.sleep(float(os.environ.get("GROUND_DAWDLE", "0")))
    Effect.objects.create(handler="dawdle", event_id=event_id)


@subscribe("ground.Spared", queue="ground.slow", attempts=1)
def spare(event_id: UUID) -> None:
    time.sleep(float(os.environ.get("GROUND_DAWDLE", "0")))
    Effect.objects.create(handler="spare", event_id=event_id)


@subscribe("ground.Lingered", atomic=False, queue="ground.slow")
def linger(event_id: UUID, receipt: Receipt) -> None:
    """Run for longer than any lease, and extend it."""
    for _step in range(int(os.environ.get("GROUND_STEPS", "1"))):
        time.sleep(0.5)
        receipt.extend()
    with receipt:
        Effect.objects.create(handler="linger", event_id=event_id)


@subscribe("ground.Echoed", inline=INLINE)
def record_echo(event_id: UUID) -> None:
    Effect.objects.create(handler="record_echo", event_id=event_id)


@subscribe("ground.Counted", ordered=True)
def follow(event_id: UUID) -> None:
    Effect.objects.create(handler="follow", event_id=event_id)


if os.environ.get("GROUND_NEWCOMER"):  # a release that has one handler more

    @subscribe("ground.Struck", queue="ground")
    def newcomer(event_id: UUID) -> None:
        Effect.objects.create(handler="newcomer", event_id=event_id)
