"""The numbers of advisory locks. Processes of two releases exclude each other by them."""

from __future__ import annotations

import pytest

from outbox.deliveries.key_locks import key_number


class TestTheNumberOfALock:
    @pytest.mark.parametrize(
        ("text", "kind", "number"),
        [
            ("order-7", b"outbox", 7182446813605884543),
            ("order-7 depot.carry", b"line", 7284307686920952807),
            ("depot.carry", b"handler", 820443111108497045),
            ("days", b"partitions", -2730805221527776450),
        ],
        ids=["a key", "an ordered key", "all keys of a handler", "partitions"],
    )
    def test_is_that_of_each_earlier_release(self, text: str, kind: bytes, number: int):
        assert key_number(text, kind=kind) == number
