"""The place of a failure is the innermost line of the project's code, not of the outbox."""

from __future__ import annotations

import json
from pathlib import Path
from time import sleep
from uuid import UUID, uuid4

import pytest
from django.contrib.auth.models import Group
from django.db import connection

from outbox import DomainEvent, emit, subscribe
from outbox.models import Attempt
from outbox.monitor.groups import groups
from outbox.testing import Outbox

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("own_registry", "no_nudge"),
]


class Named(DomainEvent, key="parcel_id"):
    parcel_id: UUID
    name: str


def failed(*names: str) -> list[Attempt]:
    """Deliver an event of each name; return the attempts that failed."""
    outbox = Outbox()
    for name in names:
        outbox.given("tests.Named", parcel_id=uuid4(), name=name)
    outbox.deliver_all(raise_errors=False)
    return list(Attempt.objects.order_by("delivery"))


def place(mark: str) -> str:
    """Return the place of the line of this file that ends with a mark."""
    lines = Path(__file__).read_text().splitlines()
    [number] = [at for at, line in enumerate(lines, start=1) if line.endswith(f"# {mark}")]
    return f"{__name__}:{number} file_parcel"


class TestAnErrorOfTheDatabase:
    def test_is_at_the_line_of_the_handler_that_caused_it(self):
        """Failed: "outbox.worker.isolation:120 _look", for whichever line of the handler."""

        @subscribe("tests.Named", attempts=1)
        def file_parcel(name: str) -> None:
            Group.objects.create(name="taken")
            if name == "first":
                Group.objects.create(name="taken")  # duplicate in the first branch
            Group.objects.create(name="taken")  # duplicate in the second branch

        first, second = failed("first", "second")

        assert (first.exception, second.exception) == ("IntegrityError", "IntegrityError")
        assert first.place == place("duplicate in the first branch")
        assert second.place == place("duplicate in the second branch")

    def test_has_a_separate_group_for_each_line(self):
        @subscribe("tests.Named", attempts=1)
        def file_parcel(name: str) -> None:
            Group.objects.create(name="taken")
            if name == "first":
                Group.objects.create(name="taken")
            Group.objects.create(name="taken")

        failed("first", "second", "second")

        assert sorted(one.number for one in groups()) == [1, 2]

    def test_keeps_its_complete_traceback(self):
        @subscribe("tests.Named", attempts=1)
        def file_parcel() -> None:
            with connection.cursor() as cursor:
                cursor.execute("SELECT no_such_column FROM outbox_event")  # unknown column

        [attempt] = failed("any")

        line = place("unknown column").split(":")[1].split()[0]
        assert attempt.place == place("unknown column")
        assert "Traceback (most recent call last)" in attempt.traceback
        assert f"line {line}, in file_parcel" in attempt.traceback
        for function in ("_run_atomic", "_look", "_time", "_execute"):
            assert f", in {function}" in attempt.traceback


class TestAnotherError:
    def test_of_the_standard_library_is_at_the_line_of_the_handler(self):
        """Failed: "json.decoder:354 raw_decode"."""

        @subscribe("tests.Named", attempts=1)
        def file_parcel() -> None:
            json.loads("{")  # invalid JSON

        [attempt] = failed("any")

        assert (attempt.exception, attempt.place) == ("JSONDecodeError", place("invalid JSON"))

    def test_that_emit_raises_is_at_the_line_of_the_handler(self):
        """Failed: at a line of outbox.emission."""

        @subscribe("tests.Named", attempts=1)
        def file_parcel() -> None:
            emit(Named(parcel_id=uuid4(), name="\x00"))  # cannot be stored

        [attempt] = failed("any")

        assert attempt.place == place("cannot be stored")

    def test_raised_for_an_interruption_is_at_the_line_of_the_handler(self):
        """Failed: "contextlib:162 __exit__"."""

        @subscribe("tests.Named", attempts=1, time_limit=0.2)
        def file_parcel() -> None:
            try:
                sleep(20)
            except BaseException as interruption:
                raise LookupError("no answer") from interruption  # interrupted

        [attempt] = failed("any")

        assert (attempt.exception, attempt.place) == ("TimeLimitExceeded", place("interrupted"))

    def test_of_arguments_that_do_not_fit_is_in_the_outbox(self):
        """No line of the project's own code is in its traceback."""

        @subscribe("tests.Named", attempts=1)
        def file_parcel(name: int) -> None: ...

        [attempt] = failed("any")

        assert attempt.place.startswith("outbox.subscriptions:")
