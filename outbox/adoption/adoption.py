"""The adoption of the outbox by a project: the new text of its files, and what a person must do."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import libcst as cst

from . import new_code, to_event, to_task, writing
from .findings import Change, Finding, find
from .modules import Module, files_of, may_matter, read
from .rewriting import Rewriting
from .tasks import Tasks

Kind = Literal["task", "event"]


class AdoptionFailed(Exception):
    """The new text of a file is no valid Python, or cannot be written. The text names the file."""


@dataclass(frozen=True)
class ChangedFile:
    """A file with its present and its new text.

    Attributes:
        before: the present text; b"" for a new file.
    """

    path: Path
    before: bytes
    after: bytes

    def diff(self) -> str:
        """Return the unified diff, with paths from the current folder."""
        name = shown(self.path)
        old, new = (
            part.decode(errors="replace").splitlines(keepends=True)
            for part in (self.before, self.after)
        )
        source = f"a/{name}" if self.before else "/dev/null"
        return "".join(_ended(difflib.unified_diff(old, new, source, f"b/{name}")))


@dataclass(frozen=True)
class Adoption:
    """The result of reading a project.

    Attributes:
        files: the files that change.
        changes: number of calls that change.
        listed: the calls that a person must change.
    """

    files: Sequence[ChangedFile] = ()
    changes: int = 0
    listed: Sequence[Finding] = field(default_factory=list)

    def write(self) -> None:
        """Write the new texts, each file as a whole.

        Raises:
            AdoptionFailed: a file cannot be written. Its present text is kept.
        """
        for number, one in enumerate(self.files):
            try:
                writing.replace(one.path, one.after)
            except OSError as error:
                raise AdoptionFailed(
                    f"{shown(one.path)} cannot be written ({error.strerror or error}). It has its "
                    f"present text, and {number} of {len(self.files)} files have the new one. "
                    "Correct its permissions or the disk, and run this again."
                ) from error


def adopt(paths: Sequence[Path], *, to: Kind = "task", atomic_requests: bool = False) -> Adoption:
    """Return the changes that store the sending of tasks with the transaction. Write nothing.

    Args:
        paths: files and folders that declare or send tasks.
        to: what a task becomes: a task with the base `OutboxTask`, or an event with a handler.
        atomic_requests: functions of modules of views are in a transaction.

    Raises:
        Unreadable: a path does not exist.
        AdoptionFailed: a new text would be no valid Python.
    """
    modules, unread = _read_all(files_of(paths))
    tasks = Tasks(modules)
    found = find(modules, tasks, to_event=to == "event", atomic_requests=atomic_requests)
    rewritings = {one.path: Rewriting(one) for one in modules}
    if to == "event":
        more, refused = _events(found.changes, rewritings)
    else:
        to_task.rewrite(found.changes, rewritings)
        more, refused = {}, []
    files = [*_changed(rewritings), *_added(more)]
    listed = sorted([*unread, *found.listed, *refused])
    return Adoption(files, len(found.changes) - len(refused), listed)


def _read_all(files: Sequence[Path]) -> tuple[list[Module], list[Finding]]:
    modules: list[Module] = []
    unread: list[Finding] = []
    for path in files:
        try:
            if may_matter(path):
                modules.append(read(path))
        except (cst.ParserSyntaxError, SyntaxError, UnicodeDecodeError) as error:
            line = getattr(error, "raw_line", 1)
            unread.append(Finding(path, line, "the file is no valid Python", _READ_AGAIN))
        except RecursionError:
            step = "Split its longest expression, or leave the file out."
            unread.append(Finding(path, 1, "the file is nested too deeply to be read", step))
        except OSError as error:
            reason = f"the file cannot be read ({error.strerror})"
            unread.append(Finding(path, 1, reason, _READ_AGAIN))
    return modules, unread


_READ_AGAIN = "Correct it, and run this again."


def _events(
    changes: Sequence[Change], rewritings: dict[Path, Rewriting]
) -> tuple[dict[Path, bytes], list[Finding]]:
    made: list[tuple[Change, to_event.Plan, str]] = []
    refused: list[Finding] = []
    owners: dict[tuple[Path, str], str] = {}
    for change in changes:
        try:
            plan = to_event.plan_of(change.task)
            owner = owners.setdefault((plan.folder, plan.event), plan.task.name)
            if owner != plan.task.name:
                raise to_event.NotPossible(f"the event {plan.event} belongs to {owner}")
            made.append((change, plan, to_event.statement_of(change, plan)))
            new_code.files_of([plan])
        except to_event.NotPossible as error:
            made = [one for one in made if one[0] is not change]
            sending = change.sending
            step = "Write the event and its handler by hand, or use --to task."
            line = sending.module.line(sending.node)
            refused.append(Finding(sending.module.path, line, str(error), step))
    to_event.rewrite(made, rewritings)
    plans = {plan.task.name: plan for _change, plan, _text in made}
    return new_code.files_of(plans.values()), refused


def _changed(rewritings: dict[Path, Rewriting]) -> Iterator[ChangedFile]:
    for one in rewritings.values():
        if one.calls or one.statements or one.decorators:
            path = one.module.path
            try:
                yield ChangedFile(path, path.read_bytes(), one.text())
            except (cst.ParserSyntaxError, SyntaxError) as error:
                raise AdoptionFailed(
                    f"The new text of {shown(path)} would be no valid Python ({error}). Change its "
                    "calls by hand, and leave it out. No file was written."
                ) from error


def _added(files: dict[Path, bytes]) -> Iterator[ChangedFile]:
    for path, text in files.items():
        before = path.read_bytes() if path.exists() else b""
        if before != text:
            yield ChangedFile(path, before, text)


def shown(path: Path) -> Path:
    """Return a path from the current folder, if it is below it."""
    whole = path.resolve()
    return whole.relative_to(Path.cwd()) if whole.is_relative_to(Path.cwd()) else whole


def _ended(lines: Iterator[str]) -> Iterator[str]:
    for line in lines:
        yield line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n"
