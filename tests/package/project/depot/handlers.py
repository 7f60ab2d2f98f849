"""A handler of each kind. Each writes one row into the book for each effect."""

import os
import signal
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from outbox import BulkDelivery, EventRecord, PermanentFailure, Receipt, Target, subscribe

from .models import Entry

RELEASE = version("django-transactional-outbox")
#: Files by which a test lets handlers continue.
SIGNALS = Path(os.environ["SIGNALS"])
#: A handler that the project changes with the upgrade: from one call per delivery to bulk calls.
IS_BULK = bool(os.environ.get("CARRY_IN_BULK"))


def book(handler: str, event: EventRecord, *, target: str = "") -> None:
    """Write an effect into the book."""
    Entry.objects.create(
        handler=handler,
        event=event.name.partition(".")[2],
        parcel=event.key,
        number=event.payload["number"],
        target=target,
        emitted_with=event.payload["emitted_with"],
        handled_with=RELEASE,
    )


def wait_for(name: str) -> None:
    """Wait until the test creates a file."""
    while not (SIGNALS / name).exists():
        time.sleep(0.02)


@subscribe("depot.Moved", batch=3)
def record(event: EventRecord) -> None:
    book("record", event)


@subscribe("depot.Moved", ordered=True)
def record_in_order(event: EventRecord) -> None:
    book("record_in_order", event)


@subscribe("depot.Moved", inline=True)
def record_inline(event: EventRecord) -> None:
    book("record_inline", event)


@subscribe("depot.Moved", bulk=True, batch=5)
def publish(deliveries: Sequence[BulkDelivery]) -> None:
    for one in deliveries:
        book("publish", one.event)
        one.done()


@subscribe("depot.Moved", bulk=True, ordered=True, batch=5)
def publish_in_order(deliveries: Sequence[BulkDelivery]) -> None:
    for one in deliveries:
        book("publish_in_order", one.event)
        one.done()


@subscribe("depot.Moved", atomic=False)
def call(event: EventRecord, receipt: Receipt) -> None:
    with receipt:
        book("call", event)


def doors(parcel: str) -> list[Target]:
    return [Target("front"), Target("back")]


@subscribe("depot.Moved", targets=doors)
def label(event: EventRecord, target: str) -> None:
    book("label", event, target=target)


@subscribe("depot.Refused")
def accept(event: EventRecord) -> None:
    if not (SIGNALS / "accept").exists():
        raise PermanentFailure("The depot is closed.")
    book("accept", event)


@subscribe("depot.Postponed", backoff_base=36000, backoff_cap=36000)
def retry(event: EventRecord) -> None:
    if not (SIGNALS / "accept").exists():
        raise ValueError("The depot is closed.")
    book("retry", event)


@subscribe("depot.Held")
def hold(event: EventRecord) -> None:
    book("hold", event)


# Not atomic: it would wait with SQLite's only write lock.
@subscribe("depot.Stopped", ordered=True, atomic=False, lease=300)
def stop(event: EventRecord, receipt: Receipt) -> None:
    (SIGNALS / "stopped").touch()
    wait_for("go")
    with receipt:
        book("stop", event)


@subscribe("depot.Abandoned", queue="depot.abandoned", lease=15, backoff_base=0.1)
def die_once(event: EventRecord) -> None:
    try:
        (SIGNALS / "died").touch(exist_ok=False)
    except FileExistsError:
        book("die_once", event)
    else:
        os.kill(os.getpid(), signal.SIGKILL)


@subscribe("depot.Reminded")
def remind(event: EventRecord) -> None:
    book("remind", event)


if IS_BULK:

    @subscribe("depot.Carried", bulk=True, ordered=True)
    def carry(deliveries: Sequence[BulkDelivery]) -> None:
        wait_for("carry")
        for one in deliveries:
            book("carry", one.event)
            one.done()

else:

    @subscribe("depot.Carried", ordered=True)
    def carry(event: EventRecord) -> None:
        wait_for("carry")
        book("carry", event)
