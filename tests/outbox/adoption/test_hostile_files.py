"""Files that cannot be read or written, and names that mean something else than they seem to."""

from __future__ import annotations

import resource
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
from django.core.management.base import CommandError

from tests.outbox.command import outbox_command

from .project import TASKS, Project

_SENDS = "def send():\n    transaction.on_commit(lambda: send_label.delay(7))\n"
_USES = "from django.db import transaction\n\nfrom .tasks import send_label\n\n\n" + _SENDS


@contextmanager
def small_files() -> Iterator[None]:
    """Let the system end each write after ten bytes, as a full disk does."""
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, limit[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)


class TestAFileThatCannotBeRead:
    @pytest.mark.parametrize(
        ("text", "reason"),
        [
            (b"# coding: unknown\nx.delay()\n", "The file is no valid Python"),
            (b"# no coding\nx = '\xe9'  # .delay\n", "The file is no valid Python"),
            (b"x.delay()\n\x00\n", "The file is no valid Python"),
            (b"x.delay()\nx = " + b"1+" * 1500 + b"1\n", "The file is nested too deeply"),
        ],
    )
    def test_is_listed_and_the_others_are_changed(self, project: Project, text: bytes, reason: str):
        project.given({"parcels/services.py": _USES})
        (project.folder / "parcels/broken.py").write_bytes(text)

        printed = project.adopt("--write")

        assert f"parcels/broken.py:1: {reason}" in printed
        assert "    send_label.delay(7)" in project.text()

    @pytest.mark.parametrize("name", ["parcels/.#services.py", "parcels/gone.py"])
    def test_is_left_out_if_it_is_a_link_to_nothing(self, project: Project, name: str):
        """An editor's lock is such a link."""
        (project.folder / name).symlink_to("nobody@host.1")
        (project.folder / "parcels/folder.py").mkdir()

        assert project.adopt() == "Nothing to change.\n"


class TestALink:
    def test_stays_and_its_target_changes_once(self, project: Project):
        project.given({"shared.py": _USES.replace(".tasks", "parcels.tasks")})
        link = project.folder / "parcels/services.py"
        link.symlink_to("../shared.py")

        printed = outbox_command("adopt", ".", "--write")

        assert "1 call changed in 2 files" in printed
        assert link.is_symlink()
        assert "\n    send_label.delay(7)" in project.text("shared.py")


class TestAFileThatCannotBeWritten:
    def test_keeps_its_text(self, project: Project):
        project.given({"parcels/services.py": _USES})
        before = project.texts()

        with small_files(), pytest.raises(CommandError, match=r"parcels/\w+.py cannot be written"):
            project.adopt("--write")

        assert project.texts() == before
        assert sorted(one.suffix for one in (project.folder / "parcels").iterdir()) == [".py"] * 3

    def test_keeps_its_permissions_otherwise(self, project: Project):
        project.given({"parcels/services.py": _USES})
        path = project.folder / "parcels/services.py"
        path.chmod(0o640)

        project.adopt("--write")

        assert path.stat().st_mode & 0o777 == 0o640


#: Files, and the reason why nothing changes.
NAMES: Mapping[str, tuple[dict[str, str], str]] = {
    "two files of one name": (
        {
            "one/jobs.py": TASKS,
            "two/jobs.py": TASKS,
            "one/calls.py": _USES.replace(".tasks", "jobs"),
        },
        "declares jobs.send_label, too",
    ),
    "another OutboxTask": (
        {
            "parcels/tasks.py": f"from mine import OutboxTask\n{TASKS}",
            "parcels/services.py": _USES,
        },
        "its module has another OutboxTask",
    ),
    "a task that is wrapped": (
        {
            "parcels/tasks.py": f"{TASKS}\n\nsend_label = wrapped(send_label)\n",
            "parcels/services.py": _USES,
        },
        "its module assigns send_label more than once",
    ),
    "a decorator of another library": (
        {
            "parcels/tasks.py": "from x import mapper\n\n\n@mapper.task\ndef send_label(x): ...\n",
            "parcels/services.py": _USES,
        },
        "These paths declare no task send_label",
    ),
    "a chord in a file without other calls": (
        {
            "parcels/jobs.py": TASKS,
            "parcels/canvas.py": (
                "from celery import chord\nfrom parcels.jobs import notify, send_label\n\n\n"
                "def go():\n    chord([send_label.s(1)])(notify.si(2))\n"
            ),
            "parcels/services.py": _USES.replace(".tasks", ".jobs"),
        },
        "has it in a chord, which OutboxTask refuses",
    ),
}


class TestANameWithAnotherMeaning:
    @pytest.mark.parametrize("kind", NAMES)
    def test_changes_nothing(self, project: Project, kind: str):
        files, reason = NAMES[kind]
        project.given(files)
        before = project.texts()

        assert reason in outbox_command("adopt", ".", "--write")
        assert project.texts() == before


_JOBS = "from celery import shared_task\n\n\n"

#: Files of which no event can be made, and the reason.
NO_EVENTS: Mapping[str, tuple[dict[str, str], str]] = {
    "an option of the task": (
        {"parcels/tasks.py": f"{_JOBS}@shared_task(queue='mail')\ndef send_label(pk): ...\n"},
        "The task has the option queue, which belongs to the handler",
    ),
    "options that are unpacked": (
        {"parcels/tasks.py": f"{_JOBS}@shared_task(**OPTIONS)\ndef send_label(pk): ...\n"},
        "The decorator of the task has arguments without a name",
    ),
    "a parameter without a name": (
        {"parcels/tasks.py": f"{_JOBS}@shared_task\ndef send_label(pk, /): ...\n"},
        "The task has parameters without a name",
    ),
    "a method of events": (
        {"parcels/tasks.py": f"{_JOBS}@shared_task\ndef send_label(copy): ...\n"},
        "Copy cannot be the name of a field",
    ),
    "an event with other fields": (
        {
            "parcels/events.py": (
                "from outbox import DomainEvent\n\n\n"
                'class SendLabelRequested(DomainEvent, key="other"):\n    other: int\n'
            )
        },
        "events.py has another SendLabelRequested, with other fields",
    ),
    "another function emit": (
        {"parcels/services.py": f"{_USES}\n\ndef emit(x): ...\n"},
        "Emit has another meaning here",
    ),
    "a text of several lines": (
        {"parcels/services.py": _USES.replace("7", '"""a\nb"""')},
        "An argument is a text of several lines",
    ),
}


class TestATaskThatIsNoEvent:
    @pytest.mark.parametrize("kind", NO_EVENTS)
    def test_changes_nothing(self, project: Project, kind: str):
        files, reason = NO_EVENTS[kind]
        project.given({"parcels/services.py": _USES} | files)
        before = project.texts()

        assert reason in project.adopt("--to", "event", "--write")
        assert project.texts() == before

    def test_is_listed_if_another_task_has_its_event(self, project: Project):
        """Seen to emit the event of the other task."""
        more = "\n\ndef more():\n    transaction.on_commit(lambda: jobs.send_label.delay(7))\n"
        uses = _USES.replace("from .tasks", "from . import jobs\nfrom .tasks")
        project.given({"parcels/jobs.py": TASKS, "parcels/services.py": uses + more})

        printed = project.adopt("--to", "event", "--write")

        assert "The event SendLabelRequested belongs to parcels.tasks.send_label" in printed
        assert "jobs.send_label.delay(7)" in project.text()


def test_a_new_file_is_readable_by_others(project: Project):
    project.given({"parcels/services.py": _USES})

    project.adopt("--to", "event", "--write")

    made = Path("parcels/events.py").stat().st_mode
    assert made & 0o777 == (project.folder / "parcels/services.py").stat().st_mode & 0o777
