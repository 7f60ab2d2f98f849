"""`python -m payments.simulator`: run the bank until Ctrl-C or SIGTERM."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sqlite3
import sys
from datetime import timedelta
from pathlib import Path
from types import FrameType
from typing import NoReturn

from . import storage
from .notices import Subscriber
from .routes import BankOptions
from .server import serving


def main() -> int:
    options = _options()
    logging.basicConfig(
        level=logging.INFO, stream=sys.stdout, format="%(asctime)s %(name)s %(message)s"
    )
    signal.signal(signal.SIGTERM, _stop)
    try:
        return _run(options)
    except KeyboardInterrupt:
        return 0
    except OSError as error:
        return _fail(f"cannot listen on {options.host}:{options.port}: {error.strerror}.")
    except sqlite3.Error as error:
        return _fail(f"cannot use the books in {options.data}: {error}.")


def _run(options: argparse.Namespace) -> int:
    file = options.data / "bank.sqlite3"
    storage.prepare(file)
    with serving(
        (options.host, options.port),
        file=file,
        api_key=options.api_key,
        options=_bank_options(options),
    ) as server:
        logging.getLogger("bank").info("listening on http://%s:%d", *server.server_address)
        server.serve_forever(poll_interval=0.1)
    return 0


def _bank_options(options: argparse.Namespace) -> BankOptions:
    return BankOptions(
        slow_seconds=options.slow_seconds,
        processing_seconds=options.processing_seconds,
        key_life=timedelta(seconds=options.key_life_seconds),
        subscriber=_subscriber(options) if options.webhook_url else None,
    )


def _subscriber(options: argparse.Namespace) -> Subscriber:
    return Subscriber(
        url=options.webhook_url,
        secret=os.environ.get("BANK_WEBHOOK_SECRET", ""),
        times=options.webhook_times,
        delay_seconds=options.webhook_delay_seconds,
        first=options.webhook_first,
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser("payments.simulator", description="A bank, simulated.")
    parser.add_argument("--port", type=int, required=True, help="0 lets the system choose one")
    parser.add_argument("--data", type=Path, required=True, help="folder of the bank's books")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (%(default)s)")
    parser.add_argument(
        "--api-key",
        default=os.environ.get("BANK_API_KEY", ""),
        help="the key that callers must show; default the environment's BANK_API_KEY (which no"
        " list of processes shows); empty: anybody who reaches the port may call",
    )
    parser.add_argument(
        "--slow-seconds", type=float, default=2.0, help="how slow tok_slow is (%(default)s)"
    )
    parser.add_argument(
        "--processing-seconds",
        type=float,
        default=60.0,
        help="how long a request may take; what is not done by then never will be (%(default)s)",
    )
    parser.add_argument(
        "--key-life-seconds",
        type=float,
        default=86400.0,
        help="how long an Idempotency-Key is remembered (%(default)s)",
    )
    _add_webhook_options(parser)
    return parser.parse_args()


def _add_webhook_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--webhook-url",
        default="",
        help="where to post what happened, signed with the environment's BANK_WEBHOOK_SECRET",
    )
    parser.add_argument(
        "--webhook-times", type=int, default=1, help="how often each is posted (%(default)s)"
    )
    parser.add_argument(
        "--webhook-delay-seconds", type=float, default=0.0, help="how late (%(default)s)"
    )
    parser.add_argument(
        "--webhook-first", action="store_true", help="post it before answering the request"
    )


def _stop(number: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def _fail(text: str) -> int:
    sys.stderr.write(f"The bank {text}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
