"""The outbox's work, by the size of its history: `python -m benchmarks.probes.growth DAY`.

Prints the milliseconds of each repeat of each kind of work, how many rows of the big tables it
reads, and the statements that read a table from end to end. `DAY` is the number of the old day that
is pruned (see `filling.py`).
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING

import django

from benchmarks.probes import milliseconds, print_json
from benchmarks.probes.filling import FIRST_DAY
from benchmarks.probes.plans import rows_read, scans
from benchmarks.project.payload import new_payload

if TYPE_CHECKING:
    from outbox.transports.base import Message

ROUNDS, EVENTS = 5, 60
LOOKS = 12

Work = Callable[[], object]


def main(day: int) -> None:
    """Measure each kind of work, then ask for the plans of its statements."""
    django.setup()
    looks = {"idle relay pass": _idle_pass, "status": _status(), "overview page": _page()}
    found: dict[str, list[float]] = defaultdict(list)
    _run(found)  # the first run opens connections, and loads and compiles code
    found.clear()
    for _ in range(ROUNDS):
        _run(found)
    for name, look in looks.items():
        look()
        found[name] = [milliseconds(look) for _ in range(LOOKS)]
    found["prune, a day"] = [milliseconds(lambda: _prune(day))]
    works: dict[str, Work] = {"emit, relay and deliver": lambda: _run(defaultdict(list)), **looks}
    rows = {name: rows_read(work) for name, work in works.items()}
    works["prune"] = lambda: _prune(day + 1)
    whole = [statement for work in works.values() for statement in scans(work)]
    print_json({"milliseconds": found, "rows": rows, "scans": whole})


def _run(found: dict[str, list[float]]) -> None:
    """Emit, relay, deliver: each pass and each message is a value."""
    from outbox.relay.passes import relay_pass

    messages: list[Message] = []
    found["emit"].append(milliseconds(_emit))
    found["relay pass"].append(milliseconds(lambda: relay_pass(publish=messages.append)))
    found["delivery"] += [milliseconds(lambda one=one: _deliver(one)) for one in messages]


def _emit() -> None:
    """Emit in one transaction: the disk is waited for once."""
    from django.db import transaction

    from benchmarks.project.ours.publishing import publish as emit

    with transaction.atomic():
        for _ in range(EVENTS):
            emit(new_payload())


def _deliver(message: Message) -> None:
    from outbox.worker.delivery import deliver

    ended = deliver(handler_name=message.handler, pairs=message.pairs, worker="benchmark")
    if {one.state for one in ended} != {"done"} or len(ended) != len(message.pairs):
        raise RuntimeError(f"{message}: {ended}")


def _idle_pass() -> None:
    from outbox.relay.passes import relay_pass

    if relay_pass(publish=print).found_something:
        raise RuntimeError("This was to be a pass that finds nothing.")


def _status() -> Work:
    from outbox.monitor.status import status

    return status


def _page() -> Work:
    """Return a look at the overview by someone who is signed in."""
    from django.contrib.auth.models import User
    from django.test import Client
    from django.urls import reverse

    client, user = Client(), User.objects.get_or_create(username="o", is_superuser=True)[0]
    User.objects.filter(pk=user.pk).update(is_staff=True)
    client.force_login(User.objects.get(pk=user.pk))

    def look() -> None:
        answer = client.get(reverse("admin:outbox_minute_changelist"))
        if answer.status_code != 200:
            raise RuntimeError(f"The overview answers {answer.status_code}.")

    return look


def _prune(day: int) -> None:
    from outbox.retention import prune

    removed = prune(older_than=FIRST_DAY - timedelta(days=day, hours=12))
    if not removed:
        raise RuntimeError(f"Nothing was as old as day {day}.")


if __name__ == "__main__":
    main(int(sys.argv[1]))
