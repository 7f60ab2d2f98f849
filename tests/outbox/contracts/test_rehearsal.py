"""The rehearsal before a deploy: owed deliveries that this code cannot handle."""

from datetime import timedelta
from uuid import UUID, uuid4

import pytest
from django.core.checks import run_checks
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from outbox import BulkDelivery, DomainEvent, subscribe, subscriptions
from outbox.contracts.rehearsal import Problem, rehearse
from outbox.events import EventRecord
from outbox.models import DelayedEvent, Delivery, Event, Subscription
from outbox.testing import Outbox
from tests.outbox.command import outbox_command, refused
from tests.outbox.drive import run_pass


@pytest.fixture(autouse=True)
def release_before(own_registry: None) -> None:
    """A release in which `tests.note` subscribes to `tests.Weighed`."""

    class Weighed(DomainEvent, key="parcel_id"):
        parcel_id: UUID
        grams: int

    @subscribe("tests.Weighed")
    def note(grams: int) -> None: ...


def owe(number: int = 1, *, state: str = "pending") -> Outbox:
    """Let its handler be owed some events."""
    outbox = Outbox()
    for _ in range(number):
        outbox.given("tests.Weighed", parcel_id=uuid4(), grams=1)
    run_pass()
    Delivery.objects.update(state=state)
    return outbox


def declare_bulk(*names: str) -> None:
    """Let `tests.publish`, a bulk handler, subscribe to these events."""

    @subscribe(*names, bulk=True)
    def publish(deliveries: list[BulkDelivery]) -> None: ...


def reasons() -> list[str]:
    return [problem.reason for problem in rehearse().problems]


class TestARehearsal:
    @pytest.mark.parametrize("state", Delivery.OWED)
    def test_reads_owed_deliveries_in_each_state(self, state: str):
        """Seen to fail with each state left out."""
        owe(3, state=state)

        found = rehearse()

        assert (found.read, found.problems, found.unread_queues) == (3, {}, {})

    def test_finds_events_that_the_new_code_cannot_decode(self):
        """Seen to fail with the handler's arguments not built."""
        owe(5)
        subscriptions.registry.clear()

        @subscribe("tests.Weighed")
        def note(grams: int, colour: str) -> None: ...

        found = rehearse()

        reason = "tests.note needs colour, which the event does not have."
        assert found.problems == {Problem("tests.note", "tests.Weighed", 1, reason): 5}
        assert [len(examples) for examples in found.examples.values()] == [3]

    def test_finds_events_without_the_fields_that_targets_need(self):
        """Failed: only the parameters of the handler were read, not those of `targets=`."""
        owe(2)
        subscriptions.registry.clear()

        def warehouses(colour: str) -> list[str]:
            return [colour]

        @subscribe("tests.Weighed", targets=warehouses)
        def note(grams: int, target: str) -> None: ...

        (reason,) = reasons()
        assert reason.endswith("needs colour, which the event does not have.")

        Delivery.objects.update(target="tokyo")
        assert reasons() == [], "The targets of this event were found."

    def test_finds_deliveries_whose_handler_has_no_targets_any_more(self):
        """Failed: workers hand such a delivery back, again and again."""
        owe()
        Delivery.objects.update(target="tokyo")

        assert reasons() == [
            "the handler has no targets= in this code, and workers hand the delivery back"
        ]

    def test_reads_the_events_of_a_bulk_handler(self):
        """Failed: it built arguments of one event, and raised for `list[BulkDelivery]`."""

        @subscribe("tests.Weighed", bulk=True)
        def publish(deliveries: list[BulkDelivery]) -> None: ...

        owe(2)
        Event.objects.filter(seq=Event.objects.latest("seq").seq).update(version=9)

        found = rehearse()

        assert found.read == 4
        assert {problem.handler for problem in found.problems} == {"tests.note", "tests.publish"}
        assert {problem.version for problem in found.problems} == {9}

    def test_shows_no_value_of_the_event(self):
        outbox = Outbox()
        outbox.given("tests.Weighed", stored_version=1, parcel_id=uuid4(), grams="hanako@x.example")

        assert reasons() == [
            "tests.note cannot read grams: Input should be a valid integer, "
            "unable to parse string as an integer"
        ]

    def test_finds_deliveries_that_would_have_no_handler(self):
        owe()
        subscriptions.registry.clear()

        assert reasons() == ["no handler of this name in this code subscribes to the event"]

    def test_finds_a_handler_that_no_longer_subscribes_to_the_event(self):
        owe()
        subscriptions.registry.clear()

        @subscribe("tests.Measured")
        def note(grams: int) -> None: ...

        assert reasons() == ["no handler of this name in this code subscribes to the event"]

    @pytest.mark.parametrize(
        ("before", "after"),
        [
            (["tests.Weighed"], ["tests.Weighed", "tests.Measured"]),
            (["tests.Weighed", "tests.Measured"], ["tests.Weighed"]),
            (["tests.Weighed"], ["tests.*"]),
            (["*"], ["*", "!billing.*"]),
        ],
    )
    def test_knows_a_handler_with_one_subscription_by_other_events(
        self, before: list[str], after: list[str]
    ):
        """Failed: it looked for the old list of events. `migrate` keeps the subscription."""
        subscriptions.registry.clear()
        declare_bulk(*before)
        owe(2)
        Outbox().given("tests.Weighed", parcel_id=uuid4(), grams=1)  # waits for fan-out
        subscriptions.registry.clear()
        declare_bulk(*after)

        found = rehearse()

        assert (found.read, found.problems) == (3, {})

    def test_finds_an_event_that_left_the_list_of_a_bulk_handler(self):
        """A worker hands back its deliveries."""
        subscriptions.registry.clear()
        declare_bulk("tests.Weighed", "tests.Measured")
        owe()
        Outbox().given("tests.Weighed", parcel_id=uuid4(), grams=1)
        subscriptions.registry.clear()
        declare_bulk("tests.Measured")

        found = rehearse()

        reason = "no handler of this name in this code subscribes to the event"
        assert found.problems == {Problem("tests.publish", "tests.Weighed", 1, reason): 2}

    def test_knows_a_handler_that_now_subscribes_by_pattern(self):
        owe()
        subscriptions.registry.clear()

        @subscribe("tests.*")
        def note(event: EventRecord) -> None: ...

        assert reasons() == []

    def test_knows_a_handler_by_its_former_name(self):
        owe()
        subscriptions.registry.clear()

        @subscribe("tests.Weighed", formerly=["tests.note"])
        def remember(grams: int) -> None: ...

        assert reasons() == []

    def test_finds_an_event_that_is_no_longer_declared(self):
        outbox = owe()
        outbox.given("tests.Forgotten", parcel_id=uuid4(), grams=1)
        Event.objects.filter(name="tests.Weighed").update(name="tests.Forgotten")

        assert "no installed app declares the event" in reasons()

    def test_finds_a_version_of_a_later_release(self):
        Outbox().given("tests.Weighed", stored_version=2, parcel_id=uuid4(), grams=1)

        assert reasons() == [
            "a later release emitted it, in a version that this code does not know"
        ]  # fmt: skip

    def test_reads_events_that_wait_for_fan_out_as_their_handlers_would(self):
        """Seen to fail with deliveries only."""
        Outbox().given("tests.Weighed", stored_version=1, parcel_id=uuid4())

        assert reasons() == ["tests.note needs grams, which the event does not have."]

    def test_reads_delayed_events(self):
        """Seen to fail with `_later` left out."""
        DelayedEvent.objects.create(
            due_at=timezone.now() + timedelta(days=1),
            stored_at=timezone.now(),
            name="tests.Weighed",
            key="1",
            payload={"parcel_id": str(uuid4())},
            correlation_id=uuid4(),
        )

        assert reasons() == ["tests.note needs grams, which the event does not have."]

    def test_names_a_queue_that_loses_its_consumers(self):
        owe()
        Subscription.objects.update(queue="old")

        assert rehearse().unread_queues == {"old": ["tests.note"]}

    def test_reads_no_settled_deliveries(self):
        """By the plans: the indexes of what is owed. Seen to fail with the states asked for at
        once on SQLite, and without a state.
        """
        owe(3, state="done")

        with CaptureQueriesContext(connection) as queries:
            found = rehearse()

        assert found.read == 0
        chosen = [one["sql"] for one in queries if 'FROM "outbox_delivery"' in one["sql"]]
        assert len(chosen) == len(Delivery.OWED)
        assert ["outbox_delivery_" in plan(sql) for sql in chosen] == [True] * len(chosen)

    def test_changes_nothing(self):
        owe(2)
        before = list(Delivery.objects.values())

        rehearse()

        assert list(Delivery.objects.values()) == before


class TestTheCommand:
    def test_reports_that_all_can_be_read(self):
        owe(2)

        assert (
            outbox_command("rehearse").strip()
            == "2 owed rows read. This code can decode all of them."
        )

    def test_lists_problems_and_fails(self):
        owe()
        subscriptions.registry.clear()

        said = refused("rehearse")

        assert "1 x tests.note, tests.Weighed version 1: no handler" in said
        assert "(for example " in said


class TestTheDeploymentCheck:
    def test_rehearses_if_the_database_is_checked(self):
        owe()
        subscriptions.registry.clear()

        found = run_checks(include_deployment_checks=True, databases=["default"])

        assert [one.id for one in found if one.id == "outbox.E023"] == ["outbox.E023"]

    def test_runs_no_query_if_the_database_is_not_checked(self):
        owe()
        subscriptions.registry.clear()

        found = run_checks(include_deployment_checks=True)

        assert [one.id for one in found if one.id == "outbox.E023"] == []


def plan(sql: str) -> str:
    """Return how the database would read a big table; a small one PostgreSQL reads whole."""
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("SET LOCAL enable_seqscan = off")
        cursor.execute(f"EXPLAIN {'QUERY PLAN ' if connection.vendor == 'sqlite' else ''}{sql}")
        return " ".join(str(row[-1]) for row in cursor.fetchall())
