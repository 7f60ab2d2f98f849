"""The expected state of each delivery after any sequence of actions: the engine in a few lines."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal

LEASE = timedelta(seconds=60)
MOST_DEATHS = 2


@dataclass(frozen=True, kw_only=True)
class Policy:
    """The policy of a handler of this test, as in its `@subscribe`."""

    name: str
    events: tuple[str, ...] = ("tests.Moved",)
    attempts: int = 3
    window: int = 3
    batch: int = 1
    atomic: bool = True
    ordered: bool = False
    on_dead: Literal["hold", "pass"] = "hold"


_BOTH = ("tests.Moved", "tests.Renamed")

POLICIES = [
    Policy(name="tests.note", batch=2),
    Policy(name="tests.call", atomic=False, window=2),
    Policy(name="tests.hold", events=_BOTH, ordered=True, attempts=2),
    Policy(name="tests.let_pass", events=_BOTH, ordered=True, on_dead="pass", attempts=2),
]


@dataclass(eq=False)
class Debt:
    """The expected delivery of one event to one handler."""

    policy: Policy
    number: int
    key: str
    pk: int = 0  # of its delivery, once it is fanned out
    token: int = 0  # the latest under which it was claimed
    started_token: int = 0
    starts: int = 0  # since it was emitted, or retried by a person
    deaths: int = 0
    leased_until: datetime | None = None
    is_done: bool = False
    is_refused: bool = False
    is_discarded: bool = False
    has_passed: bool = False

    @property
    def is_settled(self) -> bool:
        return self.is_done or self.is_discarded

    @property
    def is_given_up(self) -> bool:
        """Whether it must be dead, once no worker has a lease of it."""
        used_up = self.starts >= self.policy.attempts or self.deaths >= MOST_DEATHS
        return not self.is_settled and (self.is_refused or used_up)

    def start(self, *, token: int, until: datetime) -> None:
        self.starts, self.started_token, self.leased_until = self.starts + 1, token, until

    def end(self, *, is_done: bool = False, is_refused: bool = False) -> None:
        self.leased_until, self.is_done, self.is_refused = None, is_done, is_refused
        self.has_passed |= self.is_given_up and self.policy.on_dead == "pass"

    def give_back(self) -> None:
        """Undo the start, because a failure of the database does not count as an attempt."""
        self.starts, self.leased_until = self.starts - 1, None

    def retry(self) -> None:
        self.starts = self.deaths = 0
        self.is_refused = False


@dataclass
class Reference:
    """The expected deliveries of all emitted events, in order."""

    debts: dict[tuple[str, int], Debt] = field(default_factory=dict)
    paused: set[str] = field(default_factory=set)

    def emit(self, name: str, *, number: int, key: str) -> None:
        for policy in POLICIES:
            if name in policy.events:
                self.debts[policy.name, number] = Debt(policy, number, key)

    def sweep(self, now: datetime) -> None:
        """Count a death for each started delivery whose lease has passed."""
        for debt in self.debts.values():
            if debt.leased_until and debt.leased_until <= now:
                debt.deaths += 1
                debt.end()

    def may_start(self, debt: Debt, *, token: int) -> bool:
        """Whether a message with this token may start it: it has not started since then."""
        is_free = debt.policy.name not in self.paused and not self.is_behind(debt)
        is_owed = not debt.is_settled and not debt.is_given_up and debt.leased_until is None
        return is_free and is_owed and debt.started_token < token <= debt.token

    def is_behind(self, debt: Debt) -> bool:
        """Whether the handler is ordered and an earlier event of the key is still owed to it."""
        if not debt.policy.ordered or debt.has_passed:
            return False
        of_key = [one for one in self.debts.values() if have_same_handler_and_key(one, debt)]
        earlier = of_key[: of_key.index(debt)]
        return not all(one.is_settled or one.has_passed for one in earlier)


def have_same_handler_and_key(one: Debt, other: Debt) -> bool:
    return (one.policy, one.key) == (other.policy, other.key)
