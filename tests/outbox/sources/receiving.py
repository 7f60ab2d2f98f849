"""`manage.py outbox receive` in a process that a test starts, and may kill at a fail point.

Run as a module: `RECEIVING='{"SOURCES": {...}}' python -m tests.outbox.sources.receiving`.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from tests.processes import Running

_RECEIVING = "RECEIVING"


@contextmanager
def receiving(
    sources: Mapping[str, Any], *, die_at: str = "", after: int = 1, wait: float = 0
) -> Iterator[Running]:
    """Run the command on the database of this test, until the end of the block.

    Args:
        sources: `OUTBOX["SOURCES"]`.
        die_at: fail point at which the process kills itself.
        after: the how many-th time it does.
        wait: seconds that each batch takes before its commit.
    """
    given = {"sources": sources, "die_at": die_at, "after": after, "wait": wait}
    environment = {
        "DJANGO_SETTINGS_MODULE": "tests.outbox.project.settings",
        "DATABASE_URL": database_url(),
        "REDIS_URL": "redis://127.0.0.1:1/0",
        "PYTHONUNBUFFERED": "1",
        _RECEIVING: json.dumps(given),
    }
    process = Running(
        [sys.executable, "-m", "tests.outbox.sources.receiving"], environment=environment
    )
    try:
        yield process
    finally:
        process.end_for_sure()


def database_url() -> str:
    """Return the URL of the database of this test."""
    from django.db import connection

    given = connection.settings_dict
    if connection.vendor == "sqlite":
        return f"sqlite:///{given['NAME']}"
    user = f"{given['USER']}:{given['PASSWORD']}".removesuffix(":")
    return f"postgres://{user}@{given['HOST']}:{given['PORT']}/{given['NAME']}"


def main() -> None:
    """Run the command with the given settings."""
    import time

    import django
    from django.conf import settings

    given = json.loads(os.environ[_RECEIVING])
    settings.OUTBOX = {"NUDGE": False, "HEARTBEAT_SECONDS": 0.2, "SOURCES": given["sources"]}
    django.setup()
    from django.core.management import call_command

    from outbox.deliveries import failpoints
    from tests.outbox.sources.messages import declare_invoice_paid

    declare_invoice_paid()
    left = given["after"]

    def die() -> None:
        nonlocal left
        left -= 1
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)

    def wait() -> None:
        print("stores a batch", flush=True)
        time.sleep(given["wait"])

    if given["wait"]:
        failpoints.arm(failpoints.BEFORE_STORE, wait)
    if given["die_at"]:
        failpoints.arm(given["die_at"], die)
    call_command("outbox", "receive")


if __name__ == "__main__":
    main()
