"""Calls that `outbox adopt` does not change: it lists them with the reason and the next step."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from .project import TASKS, Project

_HEAD = "from celery import chain, chord, group, shared_task\n"

#: Services, the line that is listed, and its reason.
SERVICES: Mapping[str, tuple[str, str]] = {
    "a variable of a loop": (
        "def send(parcels):\n"
        "    for parcel in parcels:\n"
        "        transaction.on_commit(lambda: send_label.delay(parcel.pk))  # here\n",
        "The variable parcel is assigned again before the commit (line 7)",
    ),
    "a variable that is assigned again": (
        "def send(first, second):\n"
        "    pk = first.pk\n"
        "    transaction.on_commit(lambda: send_label.delay(pk))  # here\n"
        "    pk = second.pk\n",
        "The variable pk is assigned again before the commit (line 9)",
    ),
    "an object without its key": (
        "def send(parcel):\n"
        "    transaction.on_commit(lambda: send_label.delay(parcel.pk))  # here\n"
        "    parcel.save()\n",
        "The variable parcel may change before the commit (line 8)",
    ),
    "an object that another function changes": (
        "def send(parcel):\n"
        "    transaction.on_commit(lambda: send_label.delay(parcel.pk))  # here\n"
        "    store(parcel)\n",
        "The variable parcel may change before the commit (line 8)",
    ),
    "a list that grows": (
        "def send(keys):\n"
        "    transaction.on_commit(lambda: send_label.delay(keys))  # here\n"
        "    keys.append(7)\n",
        "The variable keys may change before the commit (line 8)",
    ),
    "a function with another result": (
        "def send():\n    transaction.on_commit(lambda: send_label.delay(now()))  # here\n",
        "The lambda calls now(), which may return another value before the commit",
    ),
    "a lambda with two calls": (
        "def send():\n"
        "    transaction.on_commit(lambda: (send_label.delay(7), notify.delay(7)))  # here\n",
        "The lambda does more than send one task",
    ),
    "a function as callback": (
        "def send():\n"
        "    def after():\n        send_label.delay(7)\n\n"
        "    transaction.on_commit(after)  # here\n",
        "The callback after is a function that sends tasks",
    ),
    "an async function": (
        "async def send():\n    transaction.on_commit(lambda: send_label.delay(7))  # here\n",
        "It is in an async function, which cannot store the call",
    ),
    "another database": (
        "def send():\n    transaction.on_commit(send_label.delay, using='archive')  # here\n",
        "Its transaction is on the database 'archive'",
    ),
    "a transaction on another database": (
        "def send():\n"
        "    with transaction.atomic('archive'):\n        send_label.delay(7)  # here\n",
        "Its transaction is on the database 'archive'",
    ),
    "a result that is awaited": (
        "@transaction.atomic\ndef send():\n    return send_label.delay(7).get()  # here\n",
        "Its result is used, which exists only after the commit",
    ),
    "a result that is returned": (
        "@transaction.atomic\ndef send():\n    return send_label.delay(7)  # here\n",
        "Its result is used, which exists only after the commit",
    ),
    "a canvas": (
        "@transaction.atomic\ndef send():\n"
        "    chain(send_label.si(7), notify.si(7)).delay()  # here\n",
        "It sends a signature or a canvas",
    ),
    "a task that is chosen at run time": (
        "@transaction.atomic\ndef send(task):\n    task.delay(7)  # here\n",
        "These paths declare no task task",
    ),
    "a task of another project": (
        "from other.tasks import send\n\n\n"
        "@transaction.atomic\ndef go():\n    send.delay(7)  # here\n",
        "These paths declare no task send",
    ),
    "a name": (
        "def send(app):\n"
        "    transaction.on_commit(lambda: app.send_task('parcels.send_label'))  # here\n",
        "It sends a task by its name",
    ),
}

#: Declarations and uses of a task whose base cannot be changed, and the reason.
TASKS_WITH_REASONS: Mapping[str, tuple[str, str]] = {
    "another base": (
        "@shared_task(base=Mine)\ndef send_label(pk): ...\n",
        "its base is Mine: derive that class from OutboxTask",
    ),
    "another serializer": (
        "@shared_task(serializer='pickle')\ndef send_label(pk): ...\n",
        "its serializer is 'pickle', and a stored call is JSON",
    ),
    "options that are unpacked": (
        "@shared_task(**OPTIONS)\ndef send_label(pk): ...\n",
        "its decorator has arguments without a name",
    ),
    "a refused option": (
        "@shared_task\ndef send_label(pk): ...\n\n\n"
        "def other():\n    send_label.apply_async(args=[7], connection=OTHER)\n",
        "passes connection=, which OutboxTask refuses",
    ),
    "a call with pickle": (
        "@shared_task\ndef send_label(pk): ...\n\n\n"
        "def other():\n    send_label.apply_async(args=[7], serializer='pickle')\n",
        "passes serializer=, which OutboxTask refuses",
    ),
    "an async caller": (
        "@shared_task\ndef send_label(pk): ...\n\n\nasync def other():\n    send_label.delay(7)\n",
        "calls it in an async function, which cannot store the call",
    ),
    "a chord": (
        "@shared_task\ndef send_label(pk): ...\n\n\n"
        "def other():\n    chord([send_label.s(7)])(send_label.si(8))\n",
        "has it in a chord, which OutboxTask refuses",
    ),
    "a group before another task": (
        "@shared_task\ndef send_label(pk): ...\n\n\n"
        "def other():\n    (group(send_label.s(7)) | send_label.si(8)).delay()\n",
        "has it in a chord, which OutboxTask refuses",
    ),
}


def marked(text: str) -> int:
    """Return the number of the line with the mark."""
    return next(n for n, line in enumerate(text.splitlines(), 1) if line.endswith("# here"))


class TestACallThatIsNotSafe:
    @pytest.mark.parametrize("kind", SERVICES)
    def test_is_listed_with_its_line_and_the_reason(self, project: Project, kind: str):
        text, reason = SERVICES[kind]
        project.services(text, imports=_HEAD if "chain" in text else "")
        before = project.texts()

        printed = project.adopt("--write")

        line = marked(project.text())
        assert f"parcels/services.py:{line}: {reason}" in printed
        assert "1 call to change by hand" in printed
        assert project.texts() == before


class TestATaskThatCannotBeChanged:
    @pytest.mark.parametrize("kind", TASKS_WITH_REASONS)
    def test_is_listed_at_its_call(self, project: Project, kind: str):
        text, reason = TASKS_WITH_REASONS[kind]
        project.given({"parcels/tasks.py": f"{_HEAD}\n\n{text}"})
        project.given(
            {
                "parcels/services.py": """\
                from django.db import transaction

                from .tasks import send_label


                def send():
                    transaction.on_commit(lambda: send_label.delay(7))
                """
            }
        )
        before = project.texts()

        printed = project.adopt("--write")

        assert "parcels/services.py:7: The task parcels.tasks.send_label cannot be" in printed
        assert reason in printed
        assert "Call emit() in the transaction" in printed
        assert project.texts() == before

    def test_may_be_the_body_of_a_chord(self, project: Project):
        other = "\n\n\ndef other():\n    chord([notify.s(1)])(send_label.si(8))\n"
        project.given({"parcels/tasks.py": f"{_HEAD}{TASKS}{other}"})
        project.services("def send():\n    transaction.on_commit(send_label.delay)\n")

        assert "base=OutboxTask" in project.adopt()


class TestAFileThatIsNoPython:
    def test_is_listed_and_the_others_are_changed(self, project: Project):
        project.given({"parcels/broken.py": "send.delay(:\n"})
        project.services("def send():\n    transaction.on_commit(send_label.delay)\n")

        printed = project.adopt("--write")

        assert "parcels/broken.py:1: The file is no valid Python" in printed
        assert "send_label.delay()" in project.text()


class TestTheFilesOfOthers:
    @pytest.mark.parametrize(
        "folder", ["parcels/migrations", "parcels/.cache", "parcels/env", "parcels/node_modules"]
    )
    def test_are_left_out(self, project: Project, folder: str):
        project.given({f"{folder}/pyvenv.cfg": ""} if folder.endswith("env") else {})
        project.given({f"{folder}/services.py": "x.delay_on_commit(7)\n"})

        assert project.adopt() == "Nothing to change.\n"
