"""`outbox adopt`: the tasks get a base, and the calls become plain calls in the transaction."""

from __future__ import annotations

from textwrap import dedent

import pytest

from .project import TASKS, Project

ADOPTED_TASK = "@shared_task(base=OutboxTask)\ndef send_label("

#: Calls after a commit, and what they become.
CALLS = {
    "a lambda": (
        "transaction.on_commit(lambda: send_label.delay(parcel.pk, copies=2))",
        "send_label.delay(parcel.pk, copies=2)",
    ),
    "a lambda in other lines": (
        """\
        transaction.on_commit(
            lambda: send_label.apply_async(
                args=[parcel.pk],
                countdown=60,  # the printer is slow
            )
        )""",
        """\
        send_label.apply_async(
            args=[parcel.pk],
            countdown=60,  # the printer is slow
        )""",
    ),
    "a lambda with a parameter": (
        "transaction.on_commit(lambda pk=parcel.pk: send_label.delay(pk))",
        "send_label.delay(parcel.pk)",
    ),
    "comments": (
        """\
        # of the parcel
        transaction.on_commit(
            # after the commit
            lambda: send_label.delay(parcel.pk)
        )  # soon""",
        """\
        # of the parcel
        # after the commit
        send_label.delay(parcel.pk)  # soon""",
    ),
    "a partial": (
        "transaction.on_commit(partial(send_label.delay, parcel.pk, copies=2))",
        "send_label.delay(parcel.pk, copies=2)",
    ),
    "a partial in other lines": (
        """\
        transaction.on_commit(
            functools.partial(
                send_label.delay,
                parcel_id=parcel.pk,
            ),
            robust=True,
        )""",
        """\
        send_label.delay(
            parcel_id=parcel.pk,
        )""",
    ),
    "a method": ("transaction.on_commit(send_label.delay)", "send_label.delay()"),
    "an imported name": (
        "after(lambda: send_label.delay(parcel.pk))",
        "send_label.delay(parcel.pk)",
    ),
    "the default database": (
        'transaction.on_commit(lambda: send_label.delay(parcel.pk), using="default")',
        "send_label.delay(parcel.pk)",
    ),
    "Celery's own method": (
        "send_label.delay_on_commit(parcel.pk)",
        "send_label.delay(parcel.pk)",
    ),
    "Celery's other method": (
        "send_label.apply_async_on_commit(args=[parcel.pk])",
        "send_label.apply_async(args=[parcel.pk])",
    ),
    "unpacked arguments": (
        "transaction.on_commit(lambda: send_label.delay(*parcel.pair, **parcel.rest))",
        "send_label.delay(*parcel.pair, **parcel.rest)",
    ),
    "a pure function": (
        "transaction.on_commit(lambda: send_label.delay(str(parcel.pk)))",
        "send_label.delay(str(parcel.pk))",
    ),
}

_IMPORTS = """\
import functools
from functools import partial

from django.db.transaction import on_commit as after
"""


def indented(text: str) -> str:
    lines = dedent(text).splitlines()
    return "\n".join(f"        {line}" for line in lines)


class TestACallAfterTheCommit:
    @pytest.mark.parametrize("kind", CALLS)
    def test_becomes_a_plain_call(self, project: Project, kind: str):
        before, after = CALLS[kind]
        head = "def send(parcel):\n    with transaction.atomic():\n        parcel.save()\n"
        project.services(f"{head}{indented(before)}\n", imports=_IMPORTS)

        project.adopt("--write")

        assert project.body() == f"{head}{indented(after)}\n"
        assert ADOPTED_TASK in project.text("parcels/tasks.py")

    def test_needs_no_transaction(self, project: Project):
        """Outside of one, on_commit sends at once, and OutboxTask stores at once."""
        project.services(
            """\
            def send(parcel_id):
                transaction.on_commit(lambda: notify.delay(parcel_id))
            """
        )

        project.adopt("--write")

        assert "\n    notify.delay(parcel_id)\n" in project.text()

    def test_loses_the_imports_that_nothing_uses(self, project: Project):
        project.given(
            {
                "parcels/services.py": """\
                from functools import partial

                from django.db import transaction

                from parcels.tasks import notify


                def send(parcel_id):
                    transaction.on_commit(partial(notify.delay, parcel_id))
                """
            }
        )

        project.adopt("--write")

        assert project.text() == dedent(
            """\
            from parcels.tasks import notify


            def send(parcel_id):
                notify.delay(parcel_id)
            """
        )


#: Functions that send a task within a transaction.
ATOMIC = {
    "a block": "def send():\n    with transaction.atomic():\n        send_label.delay(7)\n",
    "a block of two": (
        "def send():\n    with open('x'), transaction.atomic():\n        send_label.delay(7)\n"
    ),
    "a decorator": "@transaction.atomic\ndef send():\n    send_label.delay(7)\n",
    "a decorator with options": (
        "@transaction.atomic(durable=True)\ndef send():\n    send_label.delay(7)\n"
    ),
    "an alias": "@in_transaction\ndef send():\n    send_label.apply_async(args=[7])\n",
    "a method": (
        "class View:\n    @transaction.atomic()\n    def post(self):\n        send_label.delay(7)\n"
    ),
    "a class": (
        "@method_decorator(transaction.atomic, name='dispatch')\n"
        "class View:\n    def post(self):\n        send_label.delay(7)\n"
    ),
    "a nested function": (
        "def send():\n"
        "    @transaction.atomic\n    def inner():\n        send_label.delay(7)\n    inner()\n"
    ),
    "the id of the result": (
        "@transaction.atomic\ndef send():\n    sent = send_label.delay(7)\n    return sent.id\n"
    ),
    "a local import": (
        "@transaction.atomic\ndef send():\n"
        "    from parcels.tasks import send_label\n\n    send_label.delay(7)\n"
    ),
    "a module": "@transaction.atomic\ndef send():\n    tasks.send_label.delay(7)\n",
    "a module with its package": (
        "@transaction.atomic\ndef send():\n    parcels.tasks.send_label.delay(7)\n"
    ),
}
_MORE_IMPORTS = """\
from django.utils.decorators import method_decorator
from django.db.transaction import atomic as in_transaction

import parcels.tasks
from parcels import tasks
"""


class TestACallInATransaction:
    @pytest.mark.parametrize("kind", ATOMIC)
    def test_changes_only_the_task(self, project: Project, kind: str):
        project.services(ATOMIC[kind], imports=_MORE_IMPORTS)
        before = project.text()

        printed = project.adopt("--write")

        assert project.text() == before
        assert project.text("parcels/tasks.py").count("base=OutboxTask") == 1, printed
        assert "by hand" not in printed

    def test_of_a_view_needs_the_option(self, project: Project):
        project.given(
            {
                "parcels/views.py": """\
                from .tasks import send_label


                def send(request):
                    send_label.delay(7)
                """
            }
        )

        assert project.adopt() == "Nothing to change.\n"
        project.adopt("--atomic-requests", "--write")

        assert ADOPTED_TASK in project.text("parcels/tasks.py")


class TestACallWithoutATransaction:
    @pytest.mark.parametrize(
        "text",
        [
            "def send():\n    send_label.delay(7)\n",
            "def send():\n    with transaction.atomic():\n        pass\n    send_label.delay(7)\n",
            "@transaction.atomic\ndef send():\n    def inner():\n        send_label.delay(7)\n",
            "def send():\n    transaction.on_commit(lambda: print('sent'))\n",
            "def send(timer):\n    timer.delay(3)\n",
        ],
    )
    def test_changes_nothing(self, project: Project, text: str):
        project.services(text)
        before = project.texts()

        assert project.adopt("--write") == "Nothing to change.\n"

        assert project.texts() == before


#: Declarations of a task, and what they become.
DECLARATIONS = {
    "@shared_task": "@shared_task(base=OutboxTask)",
    "@shared_task()": "@shared_task(base=OutboxTask)",
    "@shared_task(bind=True)": "@shared_task(base=OutboxTask, bind=True)",
    "@shared_task(\n    name='x',\n)": "@shared_task(\n    base=OutboxTask,\n    name='x',\n)",
    "@shared_task(\n    name='x',  # old\n    bind=True\n)": (
        "@shared_task(\n    base=OutboxTask,\n    name='x',  # old\n    bind=True\n)"
    ),
    "@celery.shared_task": "@celery.shared_task(base=OutboxTask)",
    "@app.task(queue='labels')": "@app.task(base=OutboxTask, queue='labels')",
}


class TestATask:
    @pytest.mark.parametrize("decorator", DECLARATIONS)
    def test_gets_the_base(self, project: Project, decorator: str):
        head = "import celery\nfrom celery import shared_task\n\nfrom parcels.celery import app\n"
        task = "\ndef send_label(parcel_id): ...\n\n\n@shared_task\ndef notify(): ...\n"
        project.given({"parcels/tasks.py": f"{head}\n\n{decorator}{task}"})
        project.services("def send():\n    transaction.on_commit(send_label.delay)\n")

        project.adopt("--write")

        head = head.replace("shared_task\n", "shared_task\nfrom outbox.celery import OutboxTask\n")
        head = head.replace("from outbox.celery import OutboxTask\n\nfrom", "\nfrom")
        text = project.text("parcels/tasks.py")
        assert text.endswith(f"\n\n\n{DECLARATIONS[decorator]}{task}")
        assert text.count("from outbox.celery import OutboxTask\n") == 1

    def test_of_another_app_gets_it_through_a_package(self, project: Project):
        project.given(
            {
                "parcels/jobs/__init__.py": "from .labels import send_label\n",
                "parcels/jobs/labels.py": TASKS,
                "parcels/services.py": """\
                from django.db import transaction

                from .jobs import send_label


                @transaction.atomic
                def send():
                    send_label.delay(7)
                """,
            }
        )

        project.adopt("--write")

        assert ADOPTED_TASK in project.text("parcels/jobs/labels.py")

    def test_imports_the_base_after_its_docstring_and_imports(self, project: Project):
        project.given(
            {
                "parcels/tasks.py": '''\
                """Tasks of parcels."""

                from __future__ import annotations

                import logging

                from celery import shared_task
                from requests import post

                from .models import Parcel


                @shared_task
                def send_label(parcel_id): ...
                '''
            }
        )
        project.services("def send():\n    transaction.on_commit(send_label.delay)\n")

        project.adopt("--write")

        assert project.text("parcels/tasks.py") == dedent(
            '''\
            """Tasks of parcels."""

            from __future__ import annotations

            import logging

            from celery import shared_task
            from outbox.celery import OutboxTask
            from requests import post

            from .models import Parcel


            @shared_task(base=OutboxTask)
            def send_label(parcel_id): ...
            '''
        )


class TestASecondRun:
    def test_changes_nothing(self, project: Project):
        project.services(
            """\
            def send(parcel):
                with transaction.atomic():
                    parcel.save()
                    transaction.on_commit(lambda: send_label.delay(parcel.pk))
                    notify.delay(parcel.pk)
            """
        )
        project.adopt("--write")
        before = project.texts()

        assert project.adopt("--write", "--check") == "Nothing to change.\n"

        assert project.texts() == before


class TestTheFile:
    def test_keeps_its_line_ends_and_its_encoding(self, project: Project):
        text = (
            "# -*- coding: latin-1 -*-\r\nfrom django.db import transaction\r\n"
            "from .tasks import notify\r\n\r\n\r\ndef send(x):\r\n"
            "\ttransaction.on_commit(lambda: notify.delay(x))  # \xe4\r\n"
            "\ttransaction.atomic"
        )
        path = project.folder / "parcels/services.py"
        path.write_bytes(text.encode("latin-1"))

        project.adopt("--write")

        expected = text.replace("transaction.on_commit(lambda: notify.delay(x))", "notify.delay(x)")
        assert path.read_bytes() == expected.encode("latin-1")
