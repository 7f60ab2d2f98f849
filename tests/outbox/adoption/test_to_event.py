"""`outbox adopt --to event`: the calls become events, whose handlers call the task's function."""

from __future__ import annotations

from textwrap import dedent

import pytest

from .project import Project

SENDS = """\
def send(parcel):
    with transaction.atomic():
        parcel.save()
        transaction.on_commit(lambda: send_label.delay(parcel.pk))
"""


class TestACall:
    def test_emits_an_event_in_its_transaction(self, project: Project):
        project.services(SENDS)

        project.adopt("--to", "event", "--write")

        assert project.text() == dedent(
            """\
            from django.db import transaction
            from outbox import emit
            from parcels.events import SendLabelRequested

            from .tasks import notify


            def send(parcel):
                with transaction.atomic():
                    parcel.save()
                    emit(SendLabelRequested(parcel_id=parcel.pk))
            """
        )

    def test_gets_a_transaction_if_none_is_seen(self, project: Project):
        project.services(
            """\
            def send(parcel_id):
                # of the parcel
                transaction.on_commit(lambda: send_label.delay(parcel_id))
            """
        )

        project.adopt("--to", "event", "--write")

        assert project.body() == dedent(
            """\
            def send(parcel_id):
                # of the parcel
                with transaction.atomic():
                    emit(SendLabelRequested(parcel_id=parcel_id))
            """
        )

    @pytest.mark.parametrize(
        ("call", "emission"),
        [
            ("send_label.delay(7, copies=2)", "emit(SendLabelRequested(parcel_id=7, copies=2))"),
            (
                "send_label.apply_async((7, 2))",
                "emit(SendLabelRequested(parcel_id=7, copies=2))",
            ),
            (
                'send_label.apply_async(kwargs={"parcel_id": 7}, countdown=60)',
                "emit(SendLabelRequested(parcel_id=7), delay=timedelta(seconds=60))",
            ),
            (
                "send_label.delay(parcel_id=parcel.identifier_of_the_parcel, copies=parcel.copies)",
                "emit(\n        SendLabelRequested(\n"
                "            parcel_id=parcel.identifier_of_the_parcel,\n"
                "            copies=parcel.copies,\n        )\n    )",
            ),
        ],
    )
    def test_has_the_arguments_as_fields(self, project: Project, call: str, emission: str):
        project.services(f"@transaction.atomic\ndef send(parcel):\n    {call}\n")

        project.adopt("--to", "event", "--write")

        assert project.body() == f"@transaction.atomic\ndef send(parcel):\n    {emission}\n"
        compile(project.text(), "services.py", "exec")

    @pytest.mark.parametrize(
        ("call", "reason"),
        [
            ("send_label.delay(*pair)", "The call unpacks its arguments"),
            ("send_label.apply_async(args=pair)", "Args= is no list in the text"),
            ("send_label.apply_async(args=[7], queue='x')", "The call has the option queue"),
            ("print(send_label.delay(7).id)", "The value of the call is used"),
            ("send_label.delay(7, 2, 3)", "The call has more arguments than the task"),
            ("send_label.delay(parcel=7)", "The task has no parameter parcel"),
        ],
    )
    def test_is_listed_if_it_does_not_fit(self, project: Project, call: str, reason: str):
        project.services(f"@transaction.atomic\ndef send(pair):\n    {call}\n")
        before = project.texts()

        printed = project.adopt("--to", "event", "--write")

        assert f"parcels/services.py:8: {reason}" in printed
        assert project.texts() == before


class TestTheApp:
    def test_gets_an_event_and_a_handler(self, project: Project):
        project.services(SENDS)

        project.adopt("--to", "event", "--write")

        assert project.text("parcels/events.py") == dedent(
            '''\
            from outbox import DomainEvent


            class SendLabelRequested(DomainEvent, key="parcel_id"):
                """The work of the task send_label is requested."""

                parcel_id: int
                copies: int = 1
            '''
        )
        assert project.text("parcels/handlers.py") == dedent(
            '''\
            from outbox import Receipt, subscribe
            from parcels import tasks


            @subscribe("parcels.SendLabelRequested", atomic=False)
            def send_label(receipt: Receipt, parcel_id: int, copies: int = 1) -> None:
                """Do the work of the task send_label, then store the receipt."""
                tasks.send_label(parcel_id=parcel_id, copies=copies)
                with receipt:
                    pass
            '''
        )

    def test_keeps_its_other_events_and_handlers(self, project: Project):
        events = (
            '"""Events."""\n\nfrom uuid import UUID\n\nfrom outbox import DomainEvent\n\n\n'
            'class Sent(DomainEvent, key="parcel_id"):\n    parcel_id: UUID  # ours\n'
        )
        project.given({"parcels/events.py": events, "parcels/apps.py": ""})
        project.services(SENDS)

        project.adopt("--to", "event", "--write")

        assert project.text("parcels/events.py").startswith(events + "\n\nclass SendLabelRequested")

    def test_imports_the_types_of_the_fields(self, project: Project):
        project.given(
            {
                "parcels/tasks.py": """\
                import datetime
                from decimal import Decimal
                from uuid import UUID

                from celery import shared_task

                from .models import Parcel


                @shared_task
                def send_label(
                    note, parcel_id: UUID, weights: list[Decimal] | None = None,
                    day: datetime.date = None, of: Parcel = None, loud=False
                ): ...
                """
            }
        )
        project.services(
            "@transaction.atomic\ndef send(pk):\n    send_label.delay('x', parcel_id=pk)\n"
        )

        project.adopt("--to", "event", "--write")

        assert project.text("parcels/events.py") == dedent(
            '''\
            from decimal import Decimal
            from typing import Any
            from uuid import UUID

            from outbox import DomainEvent


            class SendLabelRequested(DomainEvent, key="parcel_id"):
                """The work of the task send_label is requested."""

                note: Any
                parcel_id: UUID
                weights: list[Decimal] | None = None
                day: Any = None
                of: Any = None
                loud: bool = False
            '''
        )

    def test_has_one_event_for_a_task_of_two_callers(self, project: Project):
        project.services(SENDS + "\n\n" + SENDS.replace("def send(", "def again("))

        printed = project.adopt("--to", "event", "--write")

        assert "2 calls changed in 3 files" in printed
        assert project.text("parcels/events.py").count("class SendLabelRequested") == 1
        assert project.text("parcels/handlers.py").count("def send_label") == 1

    def test_keeps_an_event_of_an_earlier_run(self, project: Project):
        project.services(SENDS)
        project.adopt("--to", "event", "--write")
        project.given({"parcels/views.py": project.text()})
        project.services(SENDS)

        project.adopt("--to", "event", "--write")

        assert project.text("parcels/events.py").count("class SendLabelRequested") == 1
        assert project.text("parcels/handlers.py").count("def send_label") == 1
        assert project.adopt("--to", "event", "--check") == "Nothing to change.\n"


#: Declarations of a task that is no event, and the reason.
TASKS_WITH_REASONS = {
    "@shared_task(bind=True)\ndef send_label(self, pk): ...\n": "The task is bound",
    "@shared_task\ndef send_label(): ...\n": "The task has no argument",
    "@shared_task\ndef send_label(*pks): ...\n": "The task takes any number of arguments",
    "@shared_task\ndef send_label(event): ...\n": "Event is the name of a fact of each event",
    "@shared_task\ndef send_label(pk, on=today()): ...\n": "The default of on is no literal",
}


class TestATaskThatIsNoEvent:
    @pytest.mark.parametrize("declaration", TASKS_WITH_REASONS)
    def test_is_listed(self, project: Project, declaration: str):
        project.given({"parcels/tasks.py": f"from celery import shared_task\n\n\n{declaration}"})
        project.services("@transaction.atomic\ndef send():\n    send_label.delay(7)\n")
        before = project.texts()

        printed = project.adopt("--to", "event", "--write")

        assert TASKS_WITH_REASONS[declaration] in printed
        assert "or use --to task" in printed
        assert project.texts() == before

    def test_is_listed_if_its_handler_would_replace_another_function(self, project: Project):
        project.given({"parcels/handlers.py": "def send_label(): ...\n"})
        project.services(SENDS)

        printed = project.adopt("--to", "event", "--write")

        assert "handlers.py has another function send_label" in printed
        assert "events.py" not in "".join(project.texts())
