"""The model: web processes, a relay, workers and a database share machines. All times in seconds.

It is a discrete-event model in the sense of SimPy: processes are generators that wait for simulated
time, for a processor, or for a message. The relay uses the engine's own decisions about windows and
messages (`outbox.deliveries.decisions`). Left out: retries, leases, breakers, order per key, locks
of rows, and the relay of an inline handler.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import Any

import simpy

from .costs import DATABASE_SHARE, Costs
from .subscription import Event, Message, Order, Subscription
from .workload import Workload

Steps = Generator[simpy.Event, Any, None]

#: A processor is given to the next one who waits after so long, as by an operating system.
SLICE = 0.001
#: A process that was idle for so long has cold caches.
IDLE = 0.005
# As in outbox.conf, outbox.relay.passes and outbox.transports.nudge.
FAN_OUT, POLL, SMALL, FEW, REST, PACE = 500, 1.0, 100, 5, 0.01, 0.02
NUDGE_PAUSES = 0.002, 0.02
#: A batch shares a transaction for so long.
SHARED = 0.02


class Machine:
    """Processors that processes share, each for a slice of time."""

    def __init__(self, env: simpy.Environment, cores: int) -> None:
        self._env, self.cores = env, cores
        self._processors = simpy.Resource(env, capacity=cores)
        self.busy = 0.0

    def work(self, seconds: float) -> Steps:
        """Use a processor for so long."""
        while seconds > 0:
            part = min(seconds, SLICE)
            with self._processors.request() as turn:
                yield turn
                yield self._env.timeout(part)
            self.busy += part
            seconds -= part


@dataclass
class Layout:
    """The machines and processes of one shard.

    Attributes:
        web, relay, workers, database: the machine of each. One machine may have several roles.
        web_processes: number of processes that accept orders.
        processes: number of worker processes by queue.
    """

    web: Machine
    relay: Machine
    workers: Machine
    database: Machine
    web_processes: int
    processes: Mapping[str, int]


@dataclass
class Seen:
    """Counts and times of a run.

    Attributes:
        accepted: number of orders that were stored.
        refused: number of orders that came while the database was down.
        deliveries: number of deliveries that were done.
        latencies: seconds from an event's commit to the commit of each of its handlers.
        completions: seconds from an order's commit to the emission of the workload's last event.
        first: time of the first order's commit.
        first_effect, last: time of the first and of the last effect.
        backlog: (time, events and deliveries that wait or run) in steps of a second.
        relay_busy: seconds for which the relay ran a pass.
        worker_busy: seconds of all worker processes by queue.
    """

    accepted: int = 0
    refused: int = 0
    deliveries: int = 0
    latencies: list[float] = field(default_factory=list)
    completions: list[float] = field(default_factory=list)
    first: float | None = None
    first_effect: float | None = None
    last: float = 0.0
    backlog: list[tuple[float, int]] = field(default_factory=list)
    relay_busy: float = 0.0
    worker_busy: dict[str, float] = field(default_factory=dict)


class _Nudger:
    """The thread of a process that nudges the relay: seldom under steady traffic."""

    def __init__(self, shard: Shard, machine: Machine) -> None:
        self._shard, self._machine = shard, machine
        self._wanted = shard.env.event()
        shard.env.process(self._run())

    def request(self) -> None:
        if not self._wanted.triggered:
            self._wanted.succeed()

    def _run(self) -> Steps:
        shortest, longest = NUDGE_PAUSES
        env, costs, pause = self._shard.env, self._shard.costs, shortest
        while True:
            yield self._wanted
            self._wanted = env.event()
            cold = costs.cold if pause == shortest else 1.0
            yield from self._machine.work(costs.nudge * cold)
            yield env.timeout(costs.hop)
            self._shard.receive_nudge()
            yield env.timeout(pause)
            pause = min(pause * 2, longest) if self._wanted.triggered else shortest


class Shard:
    """One database with its relay, workers and web processes.

    Args:
        rate: orders per second, at random times if `is_random`, else at equal distances. 0: each
            web process places the next order as soon as the last one is committed.
        count: number of orders; None: until the end of the run.
        outage: (from, to): the database does not answer and loses nothing.
    """

    def __init__(
        self,
        env: simpy.Environment,
        layout: Layout,
        workload: Workload,
        costs: Costs,
        *,
        rate: float,
        count: int | None = None,
        is_random: bool = True,
        outage: tuple[float, float] | None = None,
        seed: int = 1,
    ) -> None:
        self.env, self.layout, self.workload, self.costs = env, layout, workload, costs
        self.seen = Seen(worker_busy=dict.fromkeys(workload.queues, 0.0))
        self._rate, self._count, self._is_random = rate, count, is_random
        self._outage = outage
        self._rng = random.Random(seed)
        self._waiting = deque[Event]()
        self._subscriptions = {
            (event, number): Subscription(handler)
            for event, found in workload.handlers.items()
            for number, handler in enumerate(found)
        }
        self._queues = {name: simpy.Store(env) for name in workload.queues}
        self._nudged: simpy.Event = env.event()
        self._owed = self._begun = 0
        self._has_passed = False
        self._web = simpy.Resource(env, capacity=layout.web_processes)
        self._nudgers = [_Nudger(self, layout.web) for _ in range(layout.web_processes)]
        env.process(self._arrivals())
        env.process(self._relay())
        env.process(self._watch())
        for queue, number in layout.processes.items():
            for _ in range(number):
                env.process(self._worker(queue))

    def add_backlog(self, events: int) -> None:
        """Store so many of the workload's first events before the run."""
        order = Order(placed=self.env.now)
        self._waiting.extend(Event(self.workload.first, self.env.now, order) for _ in range(events))
        self._owed += events

    # --- orders -----------------------------------------------------------------------------------

    def _arrivals(self) -> Steps:
        number = 0
        while self._count is None or number < self._count:
            number += 1
            if not self._rate:
                yield self.env.process(self._place())
                continue
            self.env.process(self._place())
            gap = 1 / self._rate
            yield self.env.timeout(self._rng.expovariate(self._rate) if self._is_random else gap)

    def _place(self) -> Steps:
        with self._web.request() as turn:
            yield turn
            nudger = self._nudgers[self.seen.accepted % len(self._nudgers)]
            if self._is_down():
                self.seen.refused += 1
                return
            self._begun += 1
            if self._begun <= self.layout.web_processes:
                yield from self.layout.web.work(self.costs.first_order)
            yield from self.layout.web.work(self.costs.view)
            yield from self.layout.database.work(self.costs.view_database)
            yield from self._use(self.layout.web, self.costs.order)
            yield self.env.timeout(self.costs.commit)
            now = self.env.now
            self.seen.accepted += 1
            if self.seen.first is None:
                self.seen.first = now
            self._emit([self.workload.first], Order(placed=now))
            nudger.request()

    def _emit(self, names: list[str], order: Order) -> None:
        self._waiting.extend(Event(name, self.env.now, order) for name in names)
        self._owed += len(names)

    def receive_nudge(self) -> None:
        """Wake the relay."""
        if not self._nudged.triggered:
            self._nudged.succeed()

    # --- the relay --------------------------------------------------------------------------------

    def _relay(self) -> Steps:
        idle_since = self.env.now
        while True:
            yield self._nudged | self.env.timeout(POLL)
            found, fanned_out = 1, 0
            while found:
                self._nudged = self.env.event()
                began = self.env.now
                cold = self._factor(idle_since)
                found, fanned_out = yield from self._pass(cold)
                idle_since = self.env.now
                self.seen.relay_busy += idle_since - began
                if not found or found >= SMALL:
                    continue
                if fanned_out >= FEW:
                    yield self.env.timeout(PACE)
                else:
                    yield self._nudged | self.env.timeout(REST)

    def _pass(self, cold: float) -> Generator[simpy.Event, Any, tuple[int, int]]:
        """Fan out and send; return the number of events and deliveries, and that of events."""
        yield from self._until_up()
        events = [self._waiting.popleft() for _ in range(min(FAN_OUT, len(self._waiting)))]
        for event in events:
            found = self.workload.handlers.get(event.name, ())
            self._owed += len(found) - 1
            for number in range(len(found)):
                self._subscriptions[event.name, number].backlog.append(event)
        messages = [
            message for one in self._subscriptions.values() for message in one.take(self.env.now)
        ]
        sent = sum(len(message.events) for message in messages)
        if not events and not sent:
            yield from self._use(self.layout.relay, self.costs.look / 2 * cold)
            return 0, 0
        if not self._has_passed:
            self._has_passed = True
            yield from self.layout.relay.work(self.costs.first_pass)
        steps = self.costs.look * cold + self.costs.event * max(len(events), sent)
        yield from self._use(self.layout.relay, steps)
        for message in messages:
            yield from self.layout.relay.work(self.costs.transport / 2)
            self.env.process(self._send(message))
        return len(events) + sent, len(events)

    def _send(self, message: Message) -> Steps:
        yield self.env.timeout(self.costs.hop)
        yield self._queues[message.subscription.handler.queue].put(message)

    # --- workers ----------------------------------------------------------------------------------

    def _worker(self, queue: str) -> Steps:
        idle_since = self.env.now
        nudger = _Nudger(self, self.layout.workers)
        while True:
            message = yield self._queues[queue].get()
            began, cold = self.env.now, self._factor(idle_since)
            yield from self.layout.workers.work(self.costs.transport / 2 * cold)
            yield from self._until_up()
            yield from self._use(self.layout.workers, self.costs.message * cold)
            yield self.env.timeout(self.costs.commit)
            has_emitted = yield from self._handle(message.subscription, deque(message.events))
            idle_since = self.env.now
            self.seen.worker_busy[queue] += idle_since - began
            if message.refill or has_emitted:
                nudger.request()

    def _handle(self, one: Subscription, part: deque[Event]) -> Generator[simpy.Event, Any, bool]:
        """Run a message's deliveries; return whether they emitted events.

        As many deliveries as fit into 20 ms share a transaction.
        """
        emitted = False
        each = self.costs.delivery + one.handler.cpu
        while part:
            number = max(1, min(len(part), int(SHARED / each)))
            together = [part.popleft() for _ in range(number)]
            yield self.env.timeout(one.handler.wait)
            yield from self._until_up()
            yield from self._use(self.layout.workers, each * number)
            yield self.env.timeout(self.costs.commit)
            for event in together:
                emitted = self._settle(one, event) or emitted
        return emitted

    def _settle(self, one: Subscription, event: Event) -> bool:
        """Note that a delivery is done; return whether its handler emitted events."""
        now, order = self.env.now, event.order
        one.in_flight -= 1
        self._owed -= 1
        self.seen.deliveries += 1
        self.seen.latencies.append(now - event.at)
        self.seen.last = now
        if self.seen.first_effect is None:
            self.seen.first_effect = now
        calls = order.joins[one.handler.name] = order.joins.get(one.handler.name, 0) + 1
        if not one.handler.emits or calls % one.handler.needs:
            return False
        self._emit(list(one.handler.emits), order)
        if self.workload.last in one.handler.emits:
            self.seen.completions.append(now - order.placed)
        return True

    # --- the database and time --------------------------------------------------------------------

    def _use(self, machine: Machine, seconds: float) -> Steps:
        """Do a step that a process and the database do in turn."""
        yield from machine.work(seconds * (1 - DATABASE_SHARE))
        yield from self.layout.database.work(seconds * DATABASE_SHARE)

    def _factor(self, idle_since: float) -> float:
        return self.costs.cold if self.env.now - idle_since > IDLE else 1.0

    def _is_down(self) -> bool:
        return self._outage is not None and self._outage[0] <= self.env.now < self._outage[1]

    def _until_up(self) -> Steps:
        if self._outage is not None and self._is_down():
            yield self.env.timeout(self._outage[1] - self.env.now)

    def _watch(self) -> Steps:
        while True:
            self.seen.backlog.append((self.env.now, self._owed))
            yield self.env.timeout(1.0)
