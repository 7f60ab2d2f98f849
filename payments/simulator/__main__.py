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
        address = f"{options.host}:{options.port}"
        return _fail(f"cannot listen on {address}: {error.strerror}. Choose another --port.")
    except sqlite3.Error as error:
        return _fail(f"cannot use its database in {options.data}: {error}. Choose another --data.")


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
    parser = argparse.ArgumentParser("payments.simulator", description="A simulated bank.")
    parser.add_argument("--port", type=int, required=True, help="port to listen on; 0: a free port")
    parser.add_argument("--data", type=Path, required=True, help="folder of the bank's database")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (%(default)s)")
    parser.add_argument(
        "--api-key",
        default=os.environ.get("BANK_API_KEY", ""),
        help="API key that callers must send; default: the variable BANK_API_KEY, "
        "which process lists do not show; empty: no authentication",
    )
    parser.add_argument(
        "--slow-seconds", type=float, default=2.0, help="seconds that tok_slow takes (%(default)s)"
    )
    parser.add_argument(
        "--processing-seconds",
        type=float,
        default=60.0,
        help="longest time of a request in seconds; after it the request fails "
        "without an effect (%(default)s)",
    )
    parser.add_argument(
        "--key-life-seconds",
        type=float,
        default=86400.0,
        help="seconds for which an Idempotency-Key is stored (%(default)s)",
    )
    _add_webhook_options(parser)
    return parser.parse_args()


def _add_webhook_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--webhook-url",
        default="",
        help="URL that receives webhooks, signed with the variable BANK_WEBHOOK_SECRET",
    )
    parser.add_argument(
        "--webhook-times", type=int, default=1, help="how often each webhook is sent (%(default)s)"
    )
    parser.add_argument(
        "--webhook-delay-seconds",
        type=float,
        default=0.0,
        help="delay of each webhook in seconds (%(default)s)",
    )
    parser.add_argument(
        "--webhook-first",
        action="store_true",
        help="send the webhook before the answer to its request",
    )


def _stop(number: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def _fail(text: str) -> int:
    sys.stderr.write(f"The bank {text}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
