"""PgBouncer in transaction mode, in front of the PostgreSQL under test."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from shop.up.ports import HOST, free_port

#: Where Debian puts it, which is not on everyone's PATH.
PROGRAM = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin")

#: Fewer than there are clients, so that each transaction may get another one.
SERVER_CONNECTIONS = 3


class PgBouncer:
    """On loopback, with its own ini in `folder`; `url` leads through it to the same database."""

    def __init__(self, folder: Path, *, database_url: str) -> None:
        folder.mkdir()
        server, port = urlsplit(database_url), free_port()
        users, ini = folder / "users.txt", folder / "pgbouncer.ini"
        users.write_text(f'"{server.username}" "{server.password or ""}"\n')
        ini.write_text(
            "[databases]\n"
            f"* = host={server.hostname} port={server.port or 5432}\n"
            "[pgbouncer]\n"
            f"listen_addr = {HOST}\n"
            f"listen_port = {port}\n"
            "unix_socket_dir =\n"
            f"auth_file = {users}\n"
            "auth_type = scram-sha-256\n"
            "pool_mode = transaction\n"
            f"default_pool_size = {SERVER_CONNECTIONS}\n"
        )
        # It reads both files, and then gives up root's rights.
        as_nobody = ["--user", "nobody"] if os.geteuid() == 0 else []
        self.command = [str(PROGRAM), *as_nobody, str(ini)]
        login = f"{server.netloc.rpartition('@')[0]}@{HOST}:{port}"
        self.url = urlunsplit(server._replace(netloc=login))
