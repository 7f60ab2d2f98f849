"""Invariants that raise an error, beside others that find differences."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import pytest
from django.db import Error, connection

from outbox.reconciliation import Difference, Examination, Invariant, examination
from outbox.reconciliation.examination import MOST_KEPT, InvariantResult, reconcile
from tests.outbox.project.freight.models import Shelf

pytestmark = pytest.mark.django_db(transaction=True)

Examine = Callable[[Examination], Iterator[Difference]]


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> dict[str, Invariant]:
    """No invariants but those of the test."""
    found: dict[str, Invariant] = {}
    monkeypatch.setattr(examination, "registry", found)
    return found


def declare(
    registry: dict[str, Invariant], name: str, examine: Examine, *, outside: bool = False
) -> None:
    registry[name] = Invariant(name, "Each shelf is known.", "Count them.", (), outside, examine)


def finds_one(examination: Examination) -> Iterator[Difference]:
    examination.count_rows(Shelf.objects.using(examination.using).count())
    yield Difference("Shelf A is unknown.")


def raises_after_one(examination: Examination) -> Iterator[Difference]:
    examination.count_rows(1)
    yield Difference("Shelf B is unknown.")
    raise KeyError("shelves")


def sends_a_wrong_statement(examination: Examination) -> Iterator[Difference]:
    yield Difference("Shelf C is unknown.")
    with connection.cursor() as cursor:
        cursor.execute("SELECT nothing FROM nowhere")


def texts(found: InvariantResult) -> list[str]:
    return [one.text for one in found.kept]


class TestAnInvariantThatRaises:
    @pytest.mark.parametrize("outside", [False, True])
    @pytest.mark.parametrize(
        ("examine", "error"),
        [
            (raises_after_one, "KeyError"),
            (sends_a_wrong_statement, "(Programming|Operational)Error"),
        ],
    )
    def test_is_a_difference_beside_those_of_the_others(
        self,
        registry: dict[str, Invariant],
        caplog: pytest.LogCaptureFixture,
        examine: Examine,
        error: str,
        outside: bool,
    ):
        """Failed: reconcile() raised the error, so no difference of any invariant was reported."""
        declare(registry, "tests.before", finds_one)
        declare(registry, "tests.broken", examine, outside=outside)
        declare(registry, "tests.after", finds_one)
        declare(registry, "tests.bank", finds_one, outside=True)

        done = reconcile()

        found = {one.invariant.name: one for one in done.findings}
        for name in ("tests.before", "tests.after", "tests.bank"):
            assert texts(found[name]) == ["Shelf A is unknown."]
        about, before = texts(found["tests.broken"])
        assert re.match(f"It could not be examined: {error}. ", about)
        assert before.startswith("Shelf ")
        assert (found["tests.broken"].differences, done.differences) == (2, 5)
        assert not done.is_balanced
        assert "The invariant tests.broken could not be examined." in caplog.text

    def test_is_a_difference_if_it_returns_nothing(self, registry: dict[str, Invariant]):
        declare(registry, "tests.empty", lambda _examination: None)  # type: ignore[arg-type,return-value]

        done = reconcile()

        assert texts(done.findings[0])[0].startswith("It could not be examined: TypeError. ")

    def test_is_named_before_many_differences(self, registry: dict[str, Invariant]):
        def find_many(examination: Examination) -> Iterator[Difference]:
            for number in range(MOST_KEPT + 1):
                yield Difference(f"Shelf {number} is unknown.")
            raise KeyError("shelves")

        declare(registry, "tests.many", find_many)

        [found] = reconcile().findings

        assert texts(found)[0].startswith("It could not be examined: KeyError. ")
        assert (len(found.kept), found.differences) == (MOST_KEPT, MOST_KEPT + 2)

    @pytest.mark.postgresql
    def test_ends_the_run_if_the_snapshot_is_lost(self, registry: dict[str, Invariant]):
        """The others could not be examined either, and are not at fault."""

        def lose_the_connection(examination: Examination) -> Iterator[Difference]:
            connection.connection.close()
            yield from finds_one(examination)

        declare(registry, "tests.lost", lose_the_connection)
        declare(registry, "tests.after", finds_one)

        with pytest.raises(Error):
            reconcile()
