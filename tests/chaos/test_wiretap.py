"""The wiretap of the chaos run repeats and shuffles messages of the broker under test."""

from __future__ import annotations

from random import Random

import pytest

from tests.chaos.stack import Stack
from tests.chaos.test_fire import QUEUES, assert_each_once, settle, strike
from tests.chaos.wiretap import listening

pytestmark = [
    # It is about the broker's messages. tests/outbox/worker refuses old tokens on both databases.
    pytest.mark.once,
    pytest.mark.processes,
    pytest.mark.timeout(600),
]

OUTSIDE = "ground.outside"  # one message for each event
STEADY = 20  # looks in a row, a twentieth of a second apart


def at_rest(ground: Stack) -> int:
    """Return the queue's length when it no longer changes, because a broker counts late."""
    seen: list[int] = []

    def is_steady() -> bool:
        seen.append(ground.queue_length(OUTSIDE))
        return len(seen) >= STEADY and len(set(seen[-STEADY:])) == 1

    ground.wait_until(is_steady, "the queue is at rest")
    return seen[-1]


@pytest.mark.own_broker  # a given one does not show what is published
class TestAWiretap:
    def test_repeats_and_reorders_messages_without_repeated_effects(self, ground: Stack):
        """Without the token check: effects twice."""
        ground.stop_all(but={"broker", "relay"})
        tap = ground.broker.wiretap()
        ground.start_relay()

        with listening(tap):
            strike(ground, 10)
            ground.wait_until(lambda: ground.queue_length(OUTSIDE) >= 10, "all wait in the queue")
        ground.kill("relay")
        sent = at_rest(ground)
        tap.replay(Random(1))
        ground.wait_until(lambda: ground.queue_length(OUTSIDE) > sent, "some came again")
        waiting = at_rest(ground)
        tap.shuffle(Random(1))
        assert at_rest(ground) == waiting
        ground.start_relay()
        ground.start_worker(queues=QUEUES)

        settle(ground)
        assert_each_once(ground, 10)
