"""Declaration of invariants."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from outbox.reconciliation import Difference, Examination, invariant, registry


class TestTheAppsThatAnInvariantWaitsFor:
    def test_are_no_text(self):
        """It was read as letters, so unsettled differences were errors."""
        with pytest.raises(TypeError) as refused:

            @invariant(remedy="Weigh it.", waits_for="parcels")  # type: ignore[arg-type]
            def parcels_have_a_weight(examination: Examination) -> Iterator[Difference]:
                yield from ()

        name = "tests.outbox.reconciliation.test_invariant.parcels_have_a_weight"
        assert str(refused.value) == (
            f'{name}: waits_for= is a text. Write a tuple: waits_for=("parcels",).'
        )
        assert name not in registry
