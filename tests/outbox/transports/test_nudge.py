from __future__ import annotations

import os
import threading
import time
from uuid import UUID, uuid4

import pytest
from django.db import transaction

from outbox import DomainEvent, emit
from outbox.transports import celery_broker, celery_refusals, refusal_keeper
from outbox.transports import nudge as nudge_module
from outbox.transports.nudge import nudge
from tests.processes import CEILING


class Rung(DomainEvent, key="bell_id"):
    bell_id: UUID


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the threads that sent a nudge, in place of a broker."""
    threads: list[str] = []
    monkeypatch.setattr(nudge_module, "_nudger", nudge_module._Nudger())
    monkeypatch.setattr(celery_broker, "_connect", lambda app: None)
    monkeypatch.setattr(
        celery_broker, "_send", lambda connection: threads.append(threading.current_thread().name)
    )
    return threads


def wait_for(condition) -> None:
    end = time.monotonic() + CEILING
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


class TestANudge:
    @pytest.mark.django_db(transaction=True)
    def test_is_sent_after_the_commit_from_a_separate_thread(self, sent):
        with transaction.atomic():
            emit(Rung(bell_id=uuid4()))
            assert not sent

        wait_for(lambda: sent)
        assert set(sent) == {"outbox-nudge"}

    @pytest.mark.django_db(transaction=True)
    def test_is_not_sent_when_the_transaction_is_rolled_back(self, sent):
        with pytest.raises(ZeroDivisionError), transaction.atomic():
            emit(Rung(bell_id=uuid4()))
            raise ZeroDivisionError
        nudge()

        wait_for(lambda: sent)
        assert len(sent) == 1

    def test_is_merged_with_others_while_one_is_sent(self, monkeypatch):
        entered, go_on, sent = threading.Event(), threading.Event(), []

        def send(connection: object) -> None:
            sent.append(1)
            entered.set()
            go_on.wait(60)

        monkeypatch.setattr(nudge_module, "_nudger", nudge_module._Nudger())
        monkeypatch.setattr(celery_broker, "_connect", lambda app: None)
        monkeypatch.setattr(celery_broker, "_send", send)
        nudge()
        entered.wait(60)

        for _ in range(100):
            nudge()
        go_on.set()
        wait_for(lambda: len(sent) == 2)
        nudge()
        wait_for(lambda: len(sent) == 3)

        assert len(sent) == 3

    def test_is_dropped_while_the_broker_is_unavailable(self, monkeypatch):
        tries = []

        def send(connection: object) -> None:
            tries.append(1)
            if len(tries) == 1:
                raise ConnectionError

        monkeypatch.setattr(nudge_module, "_nudger", nudge_module._Nudger())
        monkeypatch.setattr(nudge_module, "_PAUSE_AFTER_FAILURE", 0)
        monkeypatch.setattr(celery_broker, "_connect", lambda app: None)
        monkeypatch.setattr(celery_broker, "_send", send)

        nudge()
        wait_for(lambda: tries)
        nudge()

        wait_for(lambda: len(tries) == 2)

    def test_has_a_new_thread_after_a_fork(self, sent):
        nudge()
        wait_for(lambda: sent)
        read, write = os.pipe()

        if not (child := os.fork()):
            sent.clear()
            nudge()
            end = time.monotonic() + CEILING
            while not sent and time.monotonic() < end:
                time.sleep(0.01)
            os.write(write, b"sent" if sent else b"lost")
            os._exit(0)
        os.waitpid(child, 0)

        assert os.read(read, 4) == b"sent"


class TestTheThreadOfNudges:
    def test_is_started_again_after_a_start_that_failed(self, sent: list[str]):
        def refuse(_thread: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuse)
            nudge()

        nudge()

        wait_for(lambda: sent)

    def test_is_started_again_after_its_end(self, sent: list[str]):
        ended = threading.Thread(target=lambda: None)
        ended.start()
        ended.join()
        nudge_module._nudger._thread = ended

        nudge()

        wait_for(lambda: sent)


class TestTheRefusedQueuesOfThisProcess:
    @pytest.mark.django_db
    def test_are_read_while_another_thread_changes_them(self):
        """Seen to raise RuntimeError, which ended the thread of nudges."""
        keeper = celery_refusals._refusals.keeper("default")
        refusal = refusal_keeper._Refusal("of a test", time.monotonic())

        class Queue(str):
            """Another thread notes a queue when the hash of this one is read."""

            def __hash__(self) -> int:
                keeper.refused.setdefault("another", refusal)
                return super().__hash__()

        keeper.refused[Queue("silent")] = refusal
        del keeper.refused["another"]

        try:
            assert "silent" in celery_refusals.own_queues()
        finally:
            keeper.refused.clear()
