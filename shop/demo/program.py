"""Run the demo with its own settings: `python -m shop.demo.program`, with the command's options.

Settings are read once, so this separate program sets them first: a temporary folder instead of
`.local`, its own broker and bank, short leases, and on PostgreSQL its own database. Other
variables of the environment, such as SHOP_CURRENCY, stay.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, MutableMapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TextIO, cast

import django

from shop.demo.database import DatabaseUnavailable, own_database
from shop.demo.live import LiveStream
from shop.up.ports import HOST, free_port

if TYPE_CHECKING:
    from shop.demo.stack_run import StackRun
    from shop.up.processes import Program
    from shop.up.stack import Running

#: Variables that a developer's shell may have set for `up`. The demo would use these servers.
NOT_OURS = (
    "REDIS_URL",
    "AMQP_URL",
    "SQS_URL",
    "BANK_URL",
    "EMAIL_URL",
    "DATABASE_URL",
    "GATEWAY",
    "BANK_WEBHOOK_SECRETS",
)

#: Short time-outs, so that a second attempt starts within seconds: leases are multiples of them.
TIMEOUTS = {"BANK_TIMEOUT_SECONDS": "1", "EMAIL_TIMEOUT_SECONDS": "0.5", "WORKER_GRACE": "5"}
BACKOFF = {"BACKOFF_BASE": 0.5, "BACKOFF_CAP": 2}
#: Seconds. Short if workers are killed, since the demo then waits for leases to expire.
LEASE, LEASE_WHEN_BREAKING = 30, 4
#: Seconds that `tok_slow` takes: longer than other requests, shorter than our time-out.
SLOW = "0.7"
#: An option for `make picture`, with the path of an SVG file.
PICTURE = "--picture"
KEPT = """\
The data is kept in {folder}. The output of the programs is in its demo.log. To inspect it:
  SHOP_LOCAL_DIR={folder} .venv/bin/python manage.py outbox status
  make up ARGS="--data {folder}"
"""
STOPPED = "The demo was stopped before it was complete."


def main() -> int:
    began = time.monotonic()
    keeps, is_breaking = "--keep" in sys.argv, bool({"--break", PICTURE} & set(sys.argv))
    _end_in_order_on_signals()
    with ExitStack() as ending:
        folder = ending.enter_context(_folder(keeps=keeps))
        try:
            database = ending.enter_context(own_database(os.environ, folder, keeps=keeps))
        except DatabaseUnavailable as error:
            return _fail(str(error))
        prepare(os.environ, folder=folder, database=database, is_breaking=is_breaking)
        if "--world" in sys.argv:
            return _run_world(folder, began=began)
        if PICTURE in sys.argv:
            return _run_picture(folder, began=began)
        return _run_usual(folder, began=began, is_breaking=is_breaking)
    return 1


def prepare(
    environment: MutableMapping[str, str], *, folder: Path, database: str, is_breaking: bool
) -> None:
    """Set the environment that the demo's settings and all its programs read."""
    for name in NOT_OURS:
        environment.pop(name, None)
    outbox = {"LEASE_SECONDS": LEASE_WHEN_BREAKING if is_breaking else LEASE, **BACKOFF}
    environment.update(
        TIMEOUTS, OUTBOX=json.dumps(outbox), SHOP_LOCAL_DIR=str(folder), DATABASE_URL=database
    )
    environment.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")


def _run_usual(folder: Path, *, began: float, is_breaking: bool) -> int:
    django.setup()
    from shop.demo.run import DemoRun  # it needs django.setup()

    return _run(folder, DemoRun(is_breaking=is_breaking), began=began)


def _run_picture(folder: Path, *, began: float) -> int:
    path = Path(sys.argv[sys.argv.index(PICTURE) + 1])
    django.setup()
    from shop.demo.picture import PictureRun  # it needs django.setup()

    return _run(folder, PictureRun(path), began=began)


def _run_world(folder: Path, *, began: float) -> int:
    from shop.demo.world import environment, kafka

    port = free_port()
    address = f"{HOST}:{port}"
    try:
        server = kafka.server(port=port, data=folder / "kafka")
    except kafka.KafkaMissing as error:
        return _fail(str(error))
    environment.prepare(os.environ, kafka=address)
    django.setup()
    from shop.demo.world.run import WorldRun, carrier  # these need django.setup()

    return _run(folder, WorldRun(address=address), began=began, more=[server, carrier(address)])


def _run(folder: Path, demo: StackRun, *, began: float, more: Sequence[Program] = ()) -> int:
    from shop.demo import board  # these need django.setup()
    from shop.up import stack
    from shop.up.console import Console
    from shop.up.errors import UpError

    logging.getLogger("httpx").setLevel(logging.WARNING)  # it logs each request
    slow_bank = ["--slow-seconds", SLOW]
    options = stack.Options(data=folder, port=0, reload=False, bank=slow_bank, programs=more)
    live = LiveStream(sys.stdout, board.frame)
    is_watched = "--watch" in sys.argv and live.isatty()
    with (folder / "demo.log").open("a") as log:
        stream = cast("TextIO", live) if is_watched else sys.stdout
        console = Console(stream, quiet=True, name="demo", log=log)
        console.info("Starting broker, bank, database, web, relay, worker and beat ...")
        try:
            once_ready = _watched(demo.run, live) if is_watched else demo.run
            stack.run(options, console=console, once_ready=once_ready)
        except UpError as error:
            return _fail(str(error))
    return _report(demo, seconds=time.monotonic() - began)


def _watched(run: Callable[[Running], None], live: LiveStream) -> Callable[[Running], None]:
    """Return a run below which the orders are shown."""

    def run_watched(running: Running) -> None:
        with live:
            run(running)

    return run_watched


def _report(demo: StackRun, *, seconds: float) -> int:
    """Print the result in words and as JSON; return the exit code."""
    if demo.result is None:
        return _fail(demo.trouble or STOPPED)
    words = demo.result.in_words(seconds=seconds) + "\n"
    (sys.stderr if demo.result.trouble else sys.stdout).write(words)
    sys.stdout.write(demo.result.line(seconds=seconds) + "\n")
    return demo.result.exit_code


def _end_in_order_on_signals() -> None:
    """Turn a signal into an exception until the supervisor takes over, to remove the folder."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, lambda *_: sys.exit(_fail(STOPPED)))


@contextmanager
def _folder(*, keeps: bool) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="shop-demo-"))
    try:
        yield folder
    finally:
        if keeps:
            sys.stderr.write(KEPT.format(folder=folder))
        else:
            shutil.rmtree(folder, ignore_errors=True)


def _fail(text: str) -> int:
    sys.stderr.write(text + "\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
