"""The tail shows each change once, also after a late commit."""

from __future__ import annotations

from datetime import UTC
from uuid import UUID, uuid4

import pytest
from django.utils import timezone, translation

from outbox import subscribe
from outbox.deliveries import settlement
from outbox.formatting import format_time
from outbox.models import Delivery, Event
from outbox.monitor.tail import Follower
from outbox.testing import Outbox
from tests.outbox.command import outbox_command
from tests.outbox.drive import run_pass

pytestmark = pytest.mark.usefixtures("own_registry", "no_nudge")


@pytest.fixture
def outbox() -> Outbox:
    """A handler that fails at first, and one that does not."""

    @subscribe("parcels.ParcelSent", backoff_base=3600)
    def invoice() -> None:
        raise ValueError("no paper")

    @subscribe("parcels.ParcelSent")
    def notify() -> None: ...

    return Outbox()


def emit_parcel(outbox: Outbox, key: UUID | None = None) -> Event:
    return outbox.given("parcels.ParcelSent", parcel_id=key or uuid4())


class TestFollowing:
    def test_shows_each_event_and_each_change_once(self, outbox: Outbox):
        follower = Follower()
        assert list(follower.poll()) == []
        event = emit_parcel(outbox)

        printed = list(follower.poll())
        outbox.deliver_all(raise_errors=False)
        moved = list(follower.poll())

        assert [line.split("  ")[1:] for line in printed] == [
            ["parcels.ParcelSent", event.key, "emitted by test"]
        ]
        assert len(moved) == 2
        assert [line for line in moved if line.endswith(f"tests.notify  {event.key}  done")]
        assert [
            line for line in moved if "tests.invoice" in line and "ValueError: no paper" in line
        ]
        assert list(follower.poll()) == []

    def test_has_states_in_the_language_of_the_user(self, outbox: Outbox):
        """Failed: the state was English."""
        event = emit_parcel(outbox)
        outbox.deliver_all(raise_errors=False)

        with translation.override("ja"):
            [line] = Follower(handler="tests.notify", last=1).poll()

        assert line.endswith(f"tests.notify  {event.key}  完了")

    def test_names_no_failure_if_a_worker_hands_a_delivery_back(self, outbox: Outbox):
        """Failed: "failed, retried at", after a deploy that failed nothing."""
        follower = Follower(handler="tests.notify")
        list(follower.poll())
        emit_parcel(outbox)
        for message in run_pass():
            settlement.hand_back(message.pairs, note="it is unknown here", using="default")

        [line] = follower.poll()

        due_at = format_time(Delivery.objects.get(subscription__handler="tests.notify").due_at)
        assert line.endswith(f"  sent again at {due_at}: it is unknown here")

    def test_has_times_in_utc(self, outbox: Outbox):
        """Failed: UTC, although the line did not say so."""
        emit_parcel(outbox)
        outbox.deliver_all(raise_errors=False)

        with timezone.override("Asia/Tokyo"):
            lines = list(Follower(last=1).poll())

        event = Event.objects.get()
        row = Delivery.objects.get(subscription__handler="tests.invoice")
        assert lines[0].startswith(f"{event.emitted_at.astimezone(UTC):%H:%M:%S} UTC  parcels.")
        assert any(f"failed, retried at {format_time(row.due_at)}: " in line for line in lines)

    def test_misses_nothing_that_commits_late(self, outbox: Outbox):
        """Rule 5. With "seq above the last one" the late event is never printed."""
        emit_parcel(outbox)
        follower = Follower()
        list(follower.poll())
        late, early = emit_parcel(outbox), emit_parcel(outbox)
        Event.objects.filter(pk=late.pk).delete()  # not committed yet
        assert len(list(follower.poll())) == 1

        late.save(force_insert=True)

        (line,) = follower.poll()
        assert late.key in line
        assert early.key not in line

    def test_shows_no_payload(self, outbox: Outbox):
        outbox.given("parcels.ParcelSent", parcel_id=uuid4(), to="Anna")

        said = outbox_command("tail", "--no-follow")

        assert "parcels.ParcelSent" in said
        assert "Anna" not in said

    def test_is_narrowed(self, outbox: Outbox):
        key = uuid4()
        emit_parcel(outbox, key)
        emit_parcel(outbox)
        outbox.deliver_all(raise_errors=False)

        said = outbox_command(
            "tail", "--no-follow", "--key", str(key), "--handler", "tests.notify"
        ).splitlines()

        assert [line.split("  ")[1:] for line in said] == [["tests.notify", str(key), "done"]]
