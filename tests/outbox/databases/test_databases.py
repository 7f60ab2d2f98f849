"""Steps that run for each database, and functions of the project in the one that `using=` names."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest

from outbox import databases
from outbox.management.cli import SUBCOMMANDS, errors
from outbox.reconciliation import Difference, Examination, Invariant, examination
from tests.outbox.command import outbox_command

pytestmark = pytest.mark.django_db(transaction=True)


def fail() -> None:
    raise ValueError(f"no room in {databases.alias()}")


class TestAStepForEachDatabase:
    def test_that_fails_in_several_names_each(self, shard: str, caplog: pytest.LogCaptureFixture):
        """The errors of all but the first one were lost, and that one named no database."""
        with (
            caplog.at_level(logging.ERROR, logger="outbox"),
            pytest.raises(ValueError, match="no room in default") as raised,
        ):
            databases.on_each(fail)

        assert raised.value.__notes__ == ["In the database default."]
        [logged] = caplog.records
        assert logged.getMessage() == f"The step failed in the database {shard}, too."
        assert f"no room in {shard}" in caplog.text

    def test_that_fails_in_one_runs_in_the_others(self, shard: str):
        ran = []

        def step() -> None:
            ran.append(databases.alias())
            if databases.alias() == "default":
                raise ValueError

        with pytest.raises(ValueError):  # noqa: PT011  it has no text
            databases.on_each(step)

        assert ran == ["default", shard]


class TestAReconciliation:
    def test_examines_with_its_database_as_that_of_the_running_code(
        self, shard: str, monkeypatch: pytest.MonkeyPatch
    ):
        """Failed: an invariant that reads from `alias()` compared the rows of two databases."""
        seen = []

        def examine(given: Examination) -> Iterator[Difference]:
            seen.append((databases.alias(), given.using))
            yield from ()

        mine = Invariant("tests.places", "Each parcel has a place.", "None.", (), False, examine)
        monkeypatch.setattr(examination, "registry", {mine.name: mine})

        examination.reconcile(using=shard)

        assert seen == [(shard, shard)]


class TestACommandForEachDatabase:
    def test_ends_when_nobody_reads_its_output(self, shard: str, monkeypatch: pytest.MonkeyPatch):
        """Failed: it went on in the other databases."""
        ran: list[str] = []

        def write_to_nobody(*_arguments: Any) -> None:
            ran.append(databases.alias())
            raise SystemExit(errors.UNREAD)

        monkeypatch.setattr(SUBCOMMANDS["status"], "run", write_to_nobody)

        with pytest.raises(SystemExit) as ended:
            outbox_command("status")

        assert ended.value.code == errors.UNREAD
        assert ran == ["default"]
