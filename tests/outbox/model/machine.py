"""A state machine: Hypothesis chooses each step, and the engine is compared with the model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from itertools import zip_longest

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from outbox import cancel_delayed, operations
from outbox.models import Delivery
from outbox.operations import Choice
from tests.outbox.model.actions import EVENTS, Mood, Relay
from tests.outbox.model.handlers import effects
from tests.outbox.model.reference import POLICIES, Debt
from tests.outbox.model.world import Seen, World, is_anything_waiting

State = Delivery.State

PICK = st.integers(min_value=0, max_value=5)
HANDLER = st.sampled_from([policy.name for policy in POLICIES])
NAME = st.sampled_from(sorted(EVENTS))
KEYS = ("a", "b")
KEY = st.sampled_from(KEYS)
MOOD = st.sampled_from(Mood)
MOODS = st.tuples(*[MOOD] * 6)
RELAY = st.sampled_from([Relay.WORKS, Relay.WORKS, Relay.WORKS, *Relay])
SECONDS = st.sampled_from([1, 10, 61, 400])

BY, WHY = "model", "it was chosen"
MOST_ROUNDS = 40
DISCARDABLE = (State.PENDING, State.DEAD, State.PARKED, State.BLOCKED)


class Machine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self.model = self.world.model
        self.seen: list[Seen] = []

    def teardown(self) -> None:
        try:
            if not self.world.violations:
                settle_everything(self.world)
        finally:
            self.world.close()

    @rule(name=NAME, key=KEY, times=st.integers(min_value=1, max_value=3))
    def emit(self, name: str, key: str, times: int) -> None:
        for _ in range(times):
            self.world.emit(name, key=key)

    @rule(name=NAME, key=KEY, seconds=st.sampled_from([5, 90]))
    def emit_delayed(self, name: str, key: str, seconds: int) -> None:
        self.world.emit(name, key=key, delay=timedelta(seconds=seconds))

    @precondition(lambda self: self.world.delayed)
    @rule(pick=PICK)
    def cancel_a_delayed_event(self, pick: int) -> None:
        event_id = list(self.world.delayed)[pick % len(self.world.delayed)]
        assert cancel_delayed(event_id)
        del self.world.delayed[event_id]

    @rule(how=RELAY)
    def relay(self, how: Relay) -> None:
        self.world.relay(how)

    @precondition(lambda self: self.world.queue)
    @rule(pick=PICK, mood=MOOD)
    def deliver_a_message(self, pick: int, mood: Mood) -> None:
        self.world.work(self.world.queue.pop(pick % len(self.world.queue)), mood)

    @rule(moods=MOODS)
    def relay_and_deliver(self, moods: tuple[Mood, ...]) -> None:
        self.world.relay()
        for message, mood in zip_longest(self.world.take_all(), moods):
            if message:
                self.world.work(message, mood or Mood.WORKS)

    @rule(key=KEY, seconds=SECONDS, moods=MOODS)
    def emit_and_deliver(self, key: str, seconds: int, moods: tuple[Mood, ...]) -> None:
        for name in (*EVENTS, *EVENTS):
            self.world.emit(name, key=key)
        self.relay_and_deliver(moods)
        self.wait(seconds)
        self.relay_and_deliver(moods[::-1])

    @precondition(lambda self: self.world.history)
    @rule(pick=PICK, mood=MOOD)
    def deliver_a_message_and_keep_it(self, pick: int, mood: Mood) -> None:
        """Deliver a copy of any message sent so far, which may be delivered or lost already."""
        self.world.work(self.world.history[-1 - pick % len(self.world.history)], mood)

    @precondition(lambda self: self.world.queue)
    @rule()
    def empty_the_broker(self) -> None:
        self.world.take_all()

    @rule(seconds=SECONDS)
    def wait(self, seconds: int) -> None:
        self.world.clock.shift(timedelta(seconds=seconds))

    @rule(handler=HANDLER)
    def pause_or_resume(self, handler: str) -> None:
        if handler in self.model.paused:
            resume(self.world, handler)
        else:
            self.model.paused.add(handler)
            operations.pause(handler, by=BY, reason=WHY)

    @precondition(lambda self: self.in_state(State.DEAD))
    @rule(pick=PICK)
    def retry_a_dead_one(self, pick: int) -> None:
        dead = self.in_state(State.DEAD)
        retry(dead[pick % len(dead)])

    @precondition(lambda self: self.in_state(*DISCARDABLE))
    @rule(pick=PICK)
    def discard(self, pick: int) -> None:
        rows = self.in_state(*DISCARDABLE)
        row = rows[pick % len(rows)]
        operations.discard(Choice(ids=(row.pk,)), by=BY, reason=WHY, rate=None)
        row.debt.is_discarded = True

    @rule()
    def prune(self) -> None:
        operations.prune(older_than=timedelta(0), archive="", by=BY)

    @invariant()
    def engine_matches_model(self) -> None:
        self.seen = compare(self.world)

    def in_state(self, *states: str) -> list[Seen]:
        return [row for row in self.seen if row.state in states]


def compare(world: World) -> list[Seen]:
    """Compare the stored rows and effects with the model. Return the deliveries."""
    seen, acted = world.stored_deliveries(), Counter(effects())
    assert world.violations == [], world.violations
    assert max(acted.values(), default=0) <= 1, f"acted twice: {acted}"
    for row in seen:
        has_acted = acted[row.debt.policy.name, row.debt.number] == 1
        assert (row.state == State.DONE) == has_acted == row.debt.is_done, row
        assert (row.state == State.DISCARDED) == row.debt.is_discarded, row
        assert row.attempts == row.debt.starts, row
        if row.state != State.SENT:
            assert row.debt.leased_until is None, row
            assert (row.state == State.DEAD) == row.debt.is_given_up, row
    _compare_events(world)
    _compare_windows(seen)
    return seen


def _compare_events(world: World) -> None:
    emitted = world.emitted()
    pruned = [debt for debt in world.model.debts.values() if debt.number not in emitted]
    assert all(debt.is_settled for debt in pruned), f"owed, but pruned: {pruned}"
    assert not emitted & {later.number for later in world.delayed.values()}, "emitted too early"


def _compare_windows(seen: list[Seen]) -> None:
    sent = Counter(row.debt.policy for row in seen if row.state == State.SENT)
    for policy, count in sent.items():
        assert count <= policy.window * len(policy.events), f"more in flight: {policy}, {count}"


def settle_everything(world: World) -> None:
    """Remove all faults. Assert that owed deliveries are done, dead or held behind a dead one.

    Then retry the dead deliveries, and assert that all deliveries are settled, in order.
    """
    for handler in sorted(world.model.paused):
        resume(world, handler)
    left = drain(world, lambda debt: _is_dead(debt) or _is_held(world, debt))
    for row in left:
        if row.state == State.DEAD:
            retry(row)
    drain(world, lambda debt: False)
    _compare_order(world)


def drain(world: World, may_wait: Callable[[Debt], bool]) -> list[Seen]:
    for _ in range(MOST_ROUNDS):
        while world.relay() or world.queue:
            for message in world.take_all():
                world.work(message)
        seen = compare(world)
        debts = world.model.debts.values()
        is_quiet = not is_anything_waiting() and not world.delayed
        if is_quiet and all(debt.is_settled or may_wait(debt) for debt in debts):
            return seen
        world.clock.shift(timedelta(seconds=400))
    raise AssertionError(f"still owed after {MOST_ROUNDS} rounds: {seen}")


def _is_dead(debt: Debt) -> bool:
    return debt.is_given_up and debt.leased_until is None


def _is_held(world: World, debt: Debt) -> bool:
    return debt.policy.on_dead == "hold" and world.model.is_behind(debt)


def _compare_order(world: World) -> None:
    """Assert the order of effects per key, if a dead delivery holds its key's later events."""
    done = [debt for debt in world.model.debts.values() if debt.is_done]
    acted = effects()
    for policy in POLICIES:
        for key in KEYS if policy.ordered and policy.on_dead == "hold" else ():
            emitted = [one.number for one in done if (one.policy, one.key) == (policy, key)]
            handled = [n for handler, n in acted if handler == policy.name and n in emitted]
            assert handled == emitted, f"{policy.name} handled {key} out of order"


def resume(world: World, handler: str) -> None:
    world.model.paused.discard(handler)
    operations.resume(handler, by=BY)


def retry(row: Seen) -> None:
    row.debt.retry()
    operations.retry(Choice(ids=(row.pk,)), by=BY, rate=None)
