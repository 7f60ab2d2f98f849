"""Projects that are not this one, in which a test follows a page word for word.

A page's blocks of `python` are files, those of `diff` change files, and those of `console` are
commands. All other blocks are only shown. A paragraph such as "**With Celery, on SQLite:** ..."
limits the block after it to readers who have chosen each of these.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Self

from tests.docs.environments import Environment
from tests.processes import Running

#: The address on the pages, in place of which the test's broker is used.
BROKER = "redis://localhost:6379/0"
#: A worker of a busy machine may answer later than within the ten seconds of the page's command.
PATIENT = {"manage.py outbox doctor": "manage.py outbox doctor --timeout 60"}
#: Programs that run until they are stopped, and what they print when they are ready.
STARTED = {
    r"celery .* worker": "ready",
    r"celery .* beat": "beat: Starting",
    r"python manage.py outbox work": "Working: ",
    r"python manage.py outbox receive": "Receiving",
    r"python manage.py celery_outbox_relay": "celery_outbox_relay_started",
}

FILE = re.compile(r"\A# (\S+\.py)(, at its end)?\n")
_BLOCK = re.compile(r"^```(python|console|diff)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
#: The beginning of a paragraph that limits the block after it.
_LIMIT = re.compile(r"\*\*((?:With|Without|On) [^*]+):\*\*")
_DIFF = re.compile(r"\A--- (?P<path>\S+)\n\+\+\+ (?P=path)\n")
#: Programs that run until they are stopped, and print nothing.
_SILENT = re.compile(r"python manage.py (publish|subscribe)\b")
#: Variables of the tests that would change the project.
_OURS = {
    *("DATABASE_URL", "DJANGO_SETTINGS_MODULE", "REDIS_URL", "SECOND_FACTOR", "SHOP_LOCAL_DIR"),
    *("PYTHONPATH", "VIRTUAL_ENV"),
}


def blocks(text: str) -> Iterator[tuple[str, str]]:
    """Yield each file, change and command of a page, or a part of it, in its order."""
    for kind, block in _BLOCK.findall(text):
        if kind != "console":
            yield kind, block
            continue
        for line in block.splitlines():
            assert line.startswith("$ "), line
            yield kind, line.removeprefix("$ ")


def limits(text: str) -> set[str]:
    """Return the choices that limit blocks of a text, in lower case."""
    found = re.findall(rf"^{_LIMIT.pattern}", text, re.MULTILINE)
    return {name for names in found for name in names.casefold().split(", ")}


def chosen(text: str, choices: Collection[str]) -> str:
    """Return a text without the blocks for readers who choose otherwise.

    Args:
        text: a page, or a part of it.
        choices: what the reader chooses, in the page's words: "with Celery".
    """
    given = {choice.casefold() for choice in choices}

    def keep(block: re.Match[str]) -> str:
        paragraph = text[: block.start()].rstrip().rpartition("\n\n")[2]
        names = limits(paragraph.partition("\n")[0])
        return block[0] if given.issuperset(names) else ""

    return _BLOCK.sub(keep, text)


class Project:
    """A folder in which a page is followed, with the programs of an environment of its own.

    `replaced` maps addresses of the page to those of the test.

    Attributes:
        outputs: the output of each command of the page that has ended.
        running: the programs that were started and not stopped, by their command.
        seconds: how long the page's commands took, without those of pip.
    """

    def __init__(
        self, folder: Path, environment: Environment, replaced: Mapping[str, str] | None = None
    ) -> None:
        self.folder = folder
        self.running: dict[str, Running] = {}
        self.outputs: dict[str, str] = {}
        self.seconds = 0.0
        self._copies: list[Self] = []
        self._environment = environment
        self._replaced = {**PATIENT, **(replaced or {})}
        self._variables: dict[str, str | None] = {
            **{name: None if name in _OURS else value for name, value in os.environ.items()},
            "PATH": f"{environment.programs}:{os.environ['PATH']}",
            "PYTHONDONTWRITEBYTECODE": "",  # compiled files spare each command a second
        }

    def copy(self) -> Self:
        """Return a second project with a copy of the files and the database as they are now."""
        folder = self.folder.with_name(f"{self.folder.name}-copy")
        shutil.copytree(self.folder, folder)
        copied = type(self)(folder, self._environment, self._replaced)
        self._copies.append(copied)
        return copied

    def follow(self, text: str) -> None:
        """Do all that a page, or a part of it, shows."""
        do: dict[str, Callable[[str], None]] = {
            "python": self.paste,
            "diff": self.patch,
            "console": self.enter,
        }
        for kind, block in blocks(text):
            do[kind](block)

    def paste(self, text: str) -> None:
        """Write a file whose first line is its path, or add to its end."""
        match = FILE.match(text)
        assert match, f"No file is named: {text}"
        path, code = self.folder / match[1], self._of_the_test(text[match.end() :])
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(path.read_text() + code if match[2] else code)

    def patch(self, text: str, *, reverse: bool = False) -> None:
        """Change a file as a diff shows, whose parts need no line numbers; or take it back."""
        text = self._of_the_test(text)
        match = _DIFF.match(text)
        assert match, f"No file is named: {text}"
        path = self.folder / match["path"]
        source = path.read_text()
        for hunk in re.split(r"^@@\n", text[match.end() :], flags=re.MULTILINE)[1:]:
            before, after = _sides(hunk.splitlines(keepends=True))
            if reverse:
                before, after = after, before
            assert source.count(before) == 1, f"{path} does not have once:\n{before}\n{source}"
            source = source.replace(before, after)
        path.write_text(source)

    def change(self, text: str, *, reverse: bool = False) -> None:
        """Change files as the diffs of a part of a page show, without its commands; or back."""
        changes = [block for kind, block in blocks(text) if kind == "diff"]
        for block in reversed(changes) if reverse else changes:
            self.patch(block, reverse=reverse)

    def enter(self, command: str) -> None:
        """Run a command of the page, or start it if it does not end by itself."""
        if command.startswith("pip "):
            self._pip(*shlex.split(command)[1:])
            return
        if _SILENT.match(command):
            self.start(command)
            return
        before = time.monotonic()
        for pattern, ready in STARTED.items():
            if re.match(pattern, command):
                self.start(command).says(ready)
                break
        else:
            self.outputs[command] = self.run(command)
        self.seconds += time.monotonic() - before

    def start(self, command: str) -> Running:
        """Start a program, which `stop` ends."""
        started = Running(
            ["/bin/sh", "-c", f"exec {command}"],
            folder=self.folder,
            environment=self._variables,
        )
        self.running[command] = started
        return started

    def run(self, command: str, *, status: int = 0) -> str:
        """Run a command to its end, and return its output."""
        done = subprocess.run(
            ["/bin/sh", "-c", self._of_the_test(command)],
            cwd=self.folder,
            env={name: value for name, value in self._variables.items() if value is not None},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == status, f"{command}\n{done.stdout}"
        return done.stdout

    def evaluate(self, code: str) -> str:
        """Run code in the shell of the project, with its models, and return what it prints."""
        return self.run(f"python manage.py shell -v 0 -c {shlex.quote(code)}").strip()

    def owes_nothing(self, handler: str) -> bool:
        """Return whether `outbox status` shows a handler without owed deliveries."""
        lines = self.run("python manage.py outbox status").splitlines()
        return [line.split()[1:7] for line in lines if line.startswith(handler)] == [["0"] * 6]

    def stop(self, part: str = "") -> None:
        """End the programs that have a part in their command; without one all, the last first."""
        for command in reversed([one for one in self.running if part in one]):
            self.running.pop(command).end_for_sure()

    def restart(self, command: str) -> None:
        """Stop a program of the page and start it again, as a deploy does."""
        self.stop(command)
        self.enter(command)

    def close(self) -> None:
        """End all programs, also those of copies."""
        for copied in self._copies:
            copied.stop()
        self.stop()

    def _of_the_test(self, text: str) -> str:
        for given, ours in self._replaced.items():
            text = text.replace(given, ours)
        return text

    def _pip(self, verb: str, *arguments: str) -> None:
        names: Sequence[str] = [one for one in arguments if not one.startswith("-")]
        if verb == "install":
            self._environment.install(names)
        else:
            self._environment.uninstall(names)


def _sides(lines: Sequence[str]) -> tuple[str, str]:
    """Return the text before and after a part of a diff."""
    kept = [(line[0], line[1:]) if line.strip() else (" ", "\n") for line in lines]
    before = "".join(text for sign, text in kept if sign != "+")
    after = "".join(text for sign, text in kept if sign != "-")
    return before, after
