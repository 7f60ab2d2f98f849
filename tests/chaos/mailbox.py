"""`python -m tests.chaos.mailbox PORT FOLDER [ADDRESS]`: a mail server that records messages.

`taken.jsonl` has a line for each message that it accepted, on disk before the answer. While the
file `forgetful` is in the folder it accepts, and its answer arrives too late.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from email import message_from_bytes
from pathlib import Path

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

TAKEN = "taken.jsonl"
FORGETFUL = "forgetful"
TOO_LATE = 2.0  # seconds; the shop waits for one


class Mailbox:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._taken = os.open(folder / TAKEN, os.O_CREAT | os.O_APPEND | os.O_WRONLY)

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        message = message_from_bytes(envelope.original_content or b"")
        line = {"message_id": str(message["Message-ID"]).strip(), "to": envelope.rcpt_tos[0]}
        os.write(self._taken, (json.dumps(line) + "\n").encode())
        os.fsync(self._taken)
        if (self._folder / FORGETFUL).exists():
            await asyncio.sleep(TOO_LATE)
        return "250 OK"


def main() -> None:
    port, folder = int(sys.argv[1]), Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    host = sys.argv[3] if len(sys.argv) > 3 else "127.0.0.1"
    Controller(Mailbox(folder), hostname=host, port=port).start()
    print("The mailbox is open.", flush=True)
    signal.pause()


if __name__ == "__main__":
    main()
