"""Count the functions of `outbox` that one order passes through: `python -m benchmarks.call_trace`.

One process, SQLite: emit one event, run one pass of the relay, run the message of the one delivery.
The first order fills caches. The second one is traced. Comprehensions and lambdas do not count.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, FrameType
from typing import Any
from uuid import uuid4

import django
from celery import Celery
from django.conf import settings

OUTBOX = Path(__file__).resolve().parents[1] / "outbox"

SETTINGS: dict[str, Any] = {
    "SECRET_KEY": "not used",
    "USE_TZ": True,
    "INSTALLED_APPS": ["django.contrib.contenttypes", "outbox"],
    "DATABASES": {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
    "OUTBOX": {"NUDGE": False},
}


def main() -> None:
    """Print each function with its number of calls, then the totals."""
    settings.configure(**SETTINGS)
    Celery("trace", set_as_current=True)
    django.setup()
    place_order = _prepare()
    place_order()
    with traced() as calls:
        place_order()
    print(report(calls))


@contextmanager
def traced() -> Iterator[Counter[CodeType]]:
    """Count the calls of this thread to functions of `outbox` within the block."""
    calls: Counter[CodeType] = Counter()

    def note(frame: FrameType, event: str, _argument: object) -> None:
        code = frame.f_code
        is_ours = code.co_filename.startswith(f"{OUTBOX}/")
        if event == "call" and is_ours and not code.co_name.startswith("<"):
            calls[code] += 1

    sys.setprofile(note)
    try:
        yield calls
    finally:
        sys.setprofile(None)


def report(calls: Counter[CodeType]) -> str:
    """Return the functions by file with their calls, and the totals as the last line."""
    lines, files = [], {code.co_filename for code in calls}
    for file in sorted(files):
        mine = [code for code in calls if code.co_filename == file]
        lines.append(f"{Path(file).relative_to(OUTBOX.parent)}: {len(mine)}")
        mine.sort(key=lambda code: code.co_firstlineno)
        lines += [f"    {calls[code]:3} {code.co_qualname}" for code in mine]
    return "\n".join([*lines, f"{len(calls)} functions in {len(files)} files"])


def _prepare() -> Callable[[], None]:
    """Declare an event and its handler, create the tables, and return one order's path."""
    from django.core.management import call_command
    from django.db import transaction

    from outbox import DomainEvent, emit, subscribe
    from outbox.relay.passes import relay_pass
    from outbox.tasks import deliver_message

    class OrderPlaced(DomainEvent, key="order_id"):
        order_id: str

    @subscribe(OrderPlaced.event_name)
    def count(order_id: str) -> None: ...

    call_command("migrate", verbosity=0)

    def place_order() -> None:
        with transaction.atomic():
            emit(OrderPlaced(order_id=str(uuid4())))
        messages: list[Any] = []
        relay_pass(publish=messages.append)
        [message] = messages
        deliver_message.apply(args=(message.handler, message.pairs), throw=True)

    return place_order


if __name__ == "__main__":
    main()
