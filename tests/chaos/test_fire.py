"""The rules of delivery, with real processes that are killed, wiped, frozen and doubled.

Each test says what was taken away to see it fail.
"""

from __future__ import annotations

import signal
from collections import Counter

import pytest

from outbox.deliveries import failpoints
from tests.chaos.brokers import name_under_test
from tests.chaos.stack import Stack
from tests.databases import kind_under_test

pytestmark = [pytest.mark.processes, pytest.mark.timeout(600)]

QUEUES = "ground,ground.outside,ground.slow"

#: These runs test each point at which a worker can die, and a long backlog: Valkey with both
#: databases, and PostgreSQL without a broker. Whether a point leaves all effects or none is decided
#: by the database and the worker. RabbitMQ and SQS have the same message at each point, one that is
#: not acknowledged. So they, and SQLite without a broker, are tested with one point of each list.
_IS_FULL = name_under_test() == "valkey" or (name_under_test(), kind_under_test()) == (
    "none",
    "postgresql",
)
BACKLOG = 20_000 if _IS_FULL else 2_000


def each_of(first: str, *others: str) -> list[str]:
    """Return the points at which a worker dies in this run."""
    return [first, *others] if _IS_FULL else [first]


def strike(ground: Stack, number: int, how: str = "") -> list[str]:
    return ground.manage("strike", str(number), f"--how={how}").split()


def effects(ground: Stack, handler: str) -> int:
    return int(ground.value("SELECT count(*) FROM ground_effect WHERE handler = ?", handler))


def any_delivery(ground: Stack) -> bool:
    return bool(ground.value("SELECT count(*) FROM outbox_delivery"))


def wait_for_records(ground: Stack, number: int) -> None:
    ground.wait_until(lambda: effects(ground, "record") == number, f"{number} are recorded")


def settle(ground: Stack) -> None:
    ground.wait_until(lambda: not ground.has_backlog(), "everything is delivered")


def assert_each_once(ground: Stack, number: int, **more: int) -> None:
    """Assert that each of `number` events had each effect once, and emitted one event."""
    rows = ground.query("SELECT handler, event_id, count(*) FROM ground_effect GROUP BY 1, 2")
    assert {count for _, _, count in rows} == {1}
    made = Counter(handler for handler, _, _ in rows)
    assert made == {"record": number, "call_outside": number, "record_echo": number} | more


class TestTwoRelays:
    def test_repeat_no_effect_and_lose_none(self, ground: Stack):
        """Without the unique delivery and the token check: effects twice."""
        ground.start_relay("relay")
        ground.start_relay("relay-2")
        ground.start_worker(queues=QUEUES)

        strike(ground, 150)

        settle(ground)
        assert_each_once(ground, 150)


class TestARelayThatIsKilled:
    def test_loses_nothing(self, ground: Stack):
        """Without the lease: what was claimed and not published stays sent for ever."""
        ground.stop_relays()
        ground.start_worker(queues=QUEUES)
        number = 0
        for round_ in range(3):
            number += len(strike(ground, 40))
            ground.start_relay(f"relay-{round_}")
            ground.wait_until(lambda: any_delivery(ground), "the relay began")
            ground.kill(f"relay-{round_}")
        ground.start_relay()

        settle(ground)
        assert_each_once(ground, number)


class TestAWorkerThatIsKilled:
    @pytest.mark.parametrize(
        "how",
        each_of("die_after_effects", "die_before_effects", "die_after_call", "die_in_receipt"),
    )
    def test_leaves_no_partial_effect_and_its_event_is_handled_again(self, ground: Stack, how: str):
        """Without the receipt in the effects' transaction: the effect twice, or never."""
        ground.start_relay()
        ground.start_worker(queues=QUEUES)

        strike(ground, 2, how)

        settle(ground)
        assert_each_once(ground, 2)
        died = "SELECT count(*) FROM outbox_attempt WHERE outcome = 'died'"
        assert ground.value(died) >= 1

    def test_is_replaced_by_another_if_all_its_processes_die(self, ground: Stack):
        """Without the lease: its deliveries stay sent for ever."""
        ground.stop_all(but={"broker", "relay"})
        ground.start_relay()
        ground.start_worker("doomed", queues=QUEUES)
        strike(ground, 2, "pause_in_transaction")
        started = "SELECT count(*) FROM outbox_delivery WHERE started_token > 0"
        ground.wait_until(lambda: ground.value(started) > 0, "a handler runs")

        ground.kill("doomed")
        ground.start_worker("heir", queues=QUEUES)

        settle(ground)
        assert_each_once(ground, 2)


class TestAWorkerThatIsKilledInABatch:
    @pytest.mark.parametrize(
        "point",
        each_of(
            failpoints.BETWEEN_DELIVERIES,
            failpoints.BEFORE_START,
            failpoints.AFTER_START,
            failpoints.BEFORE_RECEIPT,
            failpoints.BEFORE_COMMIT,
            failpoints.AFTER_RECEIPT,
        ),
    )
    def test_leaves_all_or_no_effects_and_each_event_is_handled_again(
        self, ground: Stack, point: str
    ):
        """Without the receipts in the batch's transaction: effects twice, or never."""
        ground.stop_relays()
        strike(ground, 30)
        asked_for = ground.folder / f"die-{point}"
        asked_for.touch()

        ground.start_worker(queues=QUEUES)
        ground.start_relay()
        ground.wait_until(lambda: not asked_for.exists(), "a worker died there")

        settle(ground)
        assert_each_once(ground, 30)


class TestAnEventThatKillsItsWorker:
    def test_ends_as_dead_and_its_batch_neighbours_do_not(self, ground: Stack):
        """Without the start marker: no attempt is counted, and it kills workers for ever."""
        ground.stop_relays()
        strike(ground, 4)
        [poison] = strike(ground, 1, "die_always")
        strike(ground, 4)
        ground.start_worker(queues=QUEUES)
        ground.start_relay()

        dead = "SELECT e.id FROM outbox_delivery d JOIN outbox_event e ON e.seq = d.event_id "
        dead += "WHERE d.state = 'dead'"
        ground.wait_until(lambda: ground.query(dead), "the poison is dead")
        ground.wait_until(lambda: effects(ground, "record") == 8, "its neighbours are handled")

        assert [str(row[0]).replace("-", "") for row in ground.query(dead)] == [
            poison.replace("-", "")
        ]
        note = ground.value("SELECT note FROM outbox_delivery WHERE state = 'dead'")
        assert "the worker died 3 times" in note


class TestAHandlerThatHangs:
    def test_is_interrupted_in_its_worker_and_retried(self, ground: Stack):
        """Without the time limit: both processes of the pool wait for ever, and nothing settles."""
        ground.start_relay()
        ground.start_worker(queues=QUEUES, concurrency=2)

        strike(ground, 2, "hang")
        strike(ground, 4)

        settle(ground)
        assert_each_once(ground, 6)
        interrupted = "SELECT count(*) FROM outbox_attempt WHERE exception = 'TimeLimitExceeded'"
        # Not more: what fails when it runs together with its neighbours is tried alone at once.
        assert ground.value(interrupted) >= 1


@pytest.mark.broker
class TestABrokerThatIsWiped:
    def test_loses_nothing(self, ground: Stack):
        """Without the lease: messages that were in the queue never come."""
        ground.stop_all(but={"broker", "relay"})
        ground.start_relay()
        strike(ground, 60)
        ground.wait_until(lambda: ground.queue_length("ground") > 0, "messages are queued")
        ground.wipe_broker()
        ground.start_worker(queues=QUEUES)
        strike(ground, 60)
        ground.wipe_broker()

        settle(ground)
        assert_each_once(ground, 120)


@pytest.mark.own_broker
class TestAnUnavailableBroker:
    def test_delays_and_loses_nothing_when_it_comes_back_empty(self, ground: Stack):
        """Without the release and the loop's retry: the first refusal ends the relay."""
        ground.start_relay()
        ground.start_worker(queues=QUEUES)
        before = len(ground.log("relay"))
        ground.kill("broker")

        strike(ground, 30)
        ground.wait_until(
            lambda: "The broker takes no message" in ground.log("relay")[before:],
            "the relay sees it",
        )
        ground.empty_broker()
        ground.start_broker()

        settle(ground)
        assert_each_once(ground, 30)

    def test_delays_and_loses_nothing_when_it_is_frozen(self, ground: Stack):
        """Without a socket timeout on publish: the relay hangs with the broker."""
        ground.start_relay()
        ground.start_worker(queues=QUEUES)
        strike(ground, 1)
        settle(ground)
        before = len(ground.log("relay"))
        ground.signal("broker", signal.SIGSTOP)

        strike(ground, 30)
        ground.wait_until(
            lambda: "The broker takes no message" in ground.log("relay")[before:],
            "the relay sees it",
        )
        ground.signal("broker", signal.SIGCONT)

        settle(ground)
        assert_each_once(ground, 31)

    def test_stops_no_worker_during_a_delivery(self, ground: Stack):
        """Without our own Consumer: kombu fails to put the message back, and the worker ends."""
        ground.start_relay()
        ground.start_worker(queues=QUEUES)
        strike(ground, 2, "pause_until_resumed")
        started = "SELECT count(*) FROM outbox_delivery WHERE started_token > 0 AND state <> 'done'"
        ground.wait_until(lambda: ground.value(started) > 0, "a handler runs")

        ground.kill("broker")
        ground.resume_handlers()
        ground.empty_broker()
        ground.start_broker()

        settle(ground)
        assert_each_once(ground, 2)
        assert ground.is_running("worker")


class TestTheBacklogOfASlowHandler:
    def test_waits_in_the_database_instead_of_being_resent_repeatedly(self, ground: Stack):
        """Without the shrinking window: each delivery is sent again with every lease."""
        ground.stop_all(but={"broker"})
        ground.manage("strike", str(BACKLOG), "--queued")
        ground.start_worker("slow", queues="ground.slow", GROUND_DAWDLE="0.2")
        ground.start_relay()

        ground.wait_until(lambda: effects(ground, "dawdle") >= 100, "100 of them are handled")

        sent_again = ground.value(
            "SELECT coalesce(sum(token - 1), 0) FROM outbox_delivery WHERE token > 1"
        )
        assert sent_again < 100, "more were sent again than were handled"
        assert ground.queue_length("ground.slow") <= 40
        twice = "SELECT count(*) FROM ground_effect GROUP BY event_id HAVING count(*) > 1"
        assert not ground.query(twice)


class TestAnOldRelay:
    def test_fans_out_to_a_handler_that_only_newer_code_has(self, ground: Stack):
        """Without the subscription rows: the old relay never sees the new handler."""
        ground.stop_all(but={"broker", "relay"})
        ground.start_relay()
        ground.manage("migrate", "-v0", GROUND_NEWCOMER="1")
        ground.start_worker("old", queues="ground")
        strike(ground, 3)
        handed_back = "SELECT count(*) FROM outbox_delivery WHERE note LIKE '%no handler%'"
        ground.wait_until(lambda: ground.value(handed_back) > 0, "old code hands it back")

        ground.stop("old")
        ground.start_worker("new", queues="ground", GROUND_NEWCOMER="1")

        ground.wait_until(lambda: effects(ground, "newcomer") == 3, "the new handler runs")
        attempts = (
            "SELECT max(d.attempts) FROM outbox_delivery d "
            "JOIN outbox_subscription s ON s.id = d.subscription_id WHERE s.handler = ?"
        )
        assert ground.value(attempts, "ground.newcomer") == 1


@pytest.mark.broker
class TestTwoBeatProcesses:
    def test_repeat_no_effect(self, ground: Stack):
        """Without the token check and the unique delivery: effects twice."""
        ground.start_relay()
        ground.start_worker(queues=QUEUES)
        ground.start_beat("beat-1")
        ground.start_beat("beat-2")
        sending = "Sending due task outbox.relay"
        ground.wait_until(
            lambda: all(sending in ground.log(name) for name in ("beat-1", "beat-2")), "both beat"
        )

        strike(ground, 50)

        settle(ground)
        assert_each_once(ground, 50)


@pytest.mark.postgresql
class TestCutDatabaseConnections:
    def test_only_delay_deliveries(self, ground: Stack):
        """Without closing broken connections: the worker and the relay never recover."""
        ground.start_relay()
        ground.start_worker(queues=QUEUES)
        number = 0
        for _ in range(5):
            number += len(strike(ground, 20))
            ground.query(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )

        settle(ground)
        assert_each_once(ground, number)


class TestAPausedHandler:
    def test_stops_immediately_and_delays_no_other(self, ground: Stack):
        """Without the check at the start: what is in flight still runs."""
        ground.start_relay()
        ground.start_worker(queues=QUEUES)
        ground.manage("outbox", "pause", "ground.record", "--reason", "a test")

        strike(ground, 20)
        ground.wait_until(lambda: effects(ground, "call_outside") == 20, "the other goes on")
        assert effects(ground, "record") == 0

        ground.manage("outbox", "resume", "ground.record")
        settle(ground)
        assert_each_once(ground, 20)


class TestAWorkerOfAllQueues:
    def test_replaces_its_pool_processes_while_it_relays(self, ground: Stack):
        """Without the relay kept apart from forks: on SQLite a child finds a lock for ever."""
        ground.stop_all(but={"broker"})
        ground.start_worker("all", queues=f"outbox,{QUEUES}")
        strike(ground, 40)
        strike(ground, 8, "die_after_effects")

        settle(ground)
        assert_each_once(ground, 48)


@pytest.mark.broker
class TestARelayWithAnInlineHandler:
    def test_needs_no_worker_for_a_single_event(self, ground: Stack):
        """Without `inline`: nothing is recorded until a worker comes."""
        ground.stop_all(but={"broker"})
        ground.start_relay(GROUND_INLINE="1")

        for number in (1, 2, 3):
            strike(ground, 1)
            wait_for_records(ground, number)

        runners = ground.query("SELECT DISTINCT worker FROM outbox_delivery WHERE state = 'done'")
        assert [str(name).partition("@")[0] for (name,) in runners] == ["relay"]
        ground.start_worker(queues=QUEUES)
        settle(ground)
        assert_each_once(ground, 3)

    def test_leaves_a_backlog_to_the_workers(self, ground: Stack):
        ground.stop_all(but={"broker"})
        strike(ground, 60)
        ground.start_worker(queues=QUEUES)
        ground.start_relay(GROUND_INLINE="1")

        settle(ground)
        assert_each_once(ground, 60)
        by_workers = "SELECT count(*) FROM outbox_delivery WHERE worker LIKE 'worker@%'"
        assert ground.value(by_workers) >= 60 * 2

    @pytest.mark.parametrize(
        "point",
        each_of(
            failpoints.AFTER_CLAIM,
            failpoints.AFTER_START,
            failpoints.BEFORE_RECEIPT,
            failpoints.AFTER_RECEIPT,
        ),
    )
    def test_that_is_killed_leaves_all_effects_or_none(self, ground: Stack, point: str):
        """Without the receipt in the effects' transaction: the effect twice, or never."""
        ground.stop_all(but={"broker"})
        ground.start_relay("doomed", GROUND_INLINE="1")
        asked_for = ground.folder / f"die-{point}"
        asked_for.touch()

        strike(ground, 1)
        ground.wait_until(lambda: not asked_for.exists(), "the relay died there")
        ground.start_relay("heir", GROUND_INLINE="1")
        ground.start_worker(queues=QUEUES)

        settle(ground)
        assert_each_once(ground, 1)

    def test_is_killed_by_a_handler_once_and_its_second_attempt_kills_a_worker(self, ground: Stack):
        """Without the check of the token: each attempt kills a relay."""
        ground.stop_all(but={"broker"})
        ground.start_relay("doomed", GROUND_INLINE="1")
        strike(ground, 1, "die_always")
        ground.wait_until(lambda: not ground.is_running("doomed"), "the relay died of it")
        ground.start_relay("heir", GROUND_INLINE="1")
        ground.start_worker(queues=QUEUES)

        dead = "SELECT count(*) FROM outbox_delivery WHERE state = 'dead'"
        ground.wait_until(lambda: ground.value(dead) == 1, "it is dead")

        assert ground.is_running("heir")


class TestAStoppedWorker:
    def test_finishes_its_running_deliveries_and_leaves_the_rest(self, ground: Stack):
        """Without acks_late: messages that it had taken are lost until their leases pass."""
        ground.stop_all(but={"broker", "relay"})
        ground.start_relay()
        ground.start_worker("old", queues=QUEUES)
        strike(ground, 100)

        assert ground.stop("old") == 0
        ground.start_worker("new", queues=QUEUES)

        settle(ground)
        assert_each_once(ground, 100)
        assert not ground.value("SELECT count(*) FROM outbox_attempt WHERE outcome = 'died'")
