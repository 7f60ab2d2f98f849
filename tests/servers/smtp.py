"""A real SMTP server on loopback that stores e-mails, refuses them, or hangs."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from email import message_from_bytes, policy
from email.message import EmailMessage
from socketserver import StreamRequestHandler, ThreadingTCPServer
from typing import cast


class MailServer(ThreadingTCPServer):
    """Stores what it takes.

    Attributes:
        taken: the stored e-mails.
        refusal: the answer to each recipient instead of 250; "": all are taken.
        hangs: it answers nothing after its greeting, until `released`.
        connected: the number of connections.
    """

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Session)
        self.taken: list[EmailMessage] = []
        self.refusal = ""
        self.hangs = False
        self.connected = 0
        self.released = threading.Event()
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    def handle_error(self, *_: object) -> None:
        pass  # a client that hangs up


class _Session(StreamRequestHandler):
    """The commands of RFC 5321 that a client without extensions sends."""

    def handle(self) -> None:
        mails = cast(MailServer, self.server)
        mails.connected += 1
        self._say("220 test")
        while line := self.rfile.readline():
            if mails.hangs:
                mails.released.wait(60)
            command = line[:4].upper().strip()
            if command == b"QUIT":
                self._say("221 bye")
                return
            if command == b"RCPT" and mails.refusal:
                self._say(mails.refusal)
            elif command == b"DATA":
                self._say("354 go on")
                mails.taken.append(self._message())
                self._say("250 taken")
            else:
                self._say("250 OK")

    def _message(self) -> EmailMessage:
        lines = []
        while (line := self.rfile.readline()) not in (b".\r\n", b""):
            lines.append(line.removeprefix(b".") if line.startswith(b"..") else line)
        return message_from_bytes(b"".join(lines), EmailMessage, policy=policy.default)

    def _say(self, text: str) -> None:
        self.wfile.write(f"{text}\r\n".encode())


@contextmanager
def mail_server() -> Iterator[MailServer]:
    server = MailServer()
    try:
        yield server
    finally:
        server.released.set()
        server.shutdown()
        server.server_close()
