"""The loop of one source: receive, store, commit, acknowledge."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Sequence
from contextlib import suppress

from django.core.exceptions import ImproperlyConfigured
from django.db import connections

from outbox import databases
from outbox.conf import conf
from outbox.deliveries import failpoints, heartbeat
from outbox.deliveries.transient_errors import DatabaseAccess, WaitGivenUp, is_transient
from outbox.settlements.recording import ReportsNotRecorded

from . import state
from .backlog import Brake
from .base import ReceivedMessage, Source, SourceUnavailable
from .configuration import SourceConfig
from .storing import store

logger = logging.getLogger("outbox.sources")

#: Seconds that one call waits for messages.
_WAIT = 1.0
#: Seconds before the source is opened again after a failure: first and longest.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 30.0


class Receiver:
    """Receives messages of one source until stopped. It runs in one thread.

    A failure closes the source, so that other processes get its messages. It is opened again when
    the database can be reached.

    Args:
        source: the source.
        stopping: ends the loop after the batch in hand.
    """

    def __init__(self, source: SourceConfig, *, stopping: threading.Event) -> None:
        self._config = source
        self._stopping = stopping
        self._name = f"{source.name}@{heartbeat.own_name()}"
        self._using = databases.alias()
        self._brake = Brake(source, using=self._using)
        self._source: Source | None = None
        self._in_hand: Sequence[ReceivedMessage] = ()
        self._lag_at = 0.0

    def run(self) -> None:
        """Receive until stopped.

        Raises:
            ImproperlyConfigured: the client library is missing, or an option is invalid.
        """
        pause = _FIRST_PAUSE
        try:
            while not self._stopping.is_set():
                try:
                    self._step()
                    pause = _FIRST_PAUSE
                except (ImproperlyConfigured, WaitGivenUp):
                    raise
                except Exception as error:
                    self._fail(error)
                    self._stopping.wait(pause * random.uniform(0.5, 1))
                    pause = min(pause * 2, _LONGEST_PAUSE)
        except WaitGivenUp as error:
            logger.info("%s", error)
        finally:
            self._give_up_source()
            connections.close_all()

    def _step(self) -> None:
        """Receive and store one batch, or wait."""
        source = self._opened()
        access = DatabaseAccess(self._using, sleep=self._wait_for_database)
        heartbeat.beat(heartbeat.Kind.RECEIVER, self._name, queues=[self._config.name])
        is_paused = access.run(self._brake.is_needed, through_outages=False)
        self._note_lag(source)
        if is_paused:
            source.keep_alive()
            self._stopping.wait(_WAIT)
            return
        self._in_hand = source.receive(source.max_batch, timeout=_WAIT)
        if self._in_hand:
            store(
                self._config,
                self._in_hand,
                retry=lambda action: access.run(action, through_outages=False),
                using=self._using,
            )
            failpoints.reach(failpoints.AFTER_STORE)
            stored, self._in_hand = self._in_hand, ()
            source.acknowledge(stored)

    def _opened(self) -> Source:
        if self._source is None:
            made = self._config.create()
            assert isinstance(made, Source)
            self._source, self._lag_at = made, 0.0
        return self._source

    def _note_lag(self, source: Source) -> None:
        """Store the lag as often as a heartbeat. An unknown lag is no failure.

        An answer shows that the system can be reached again.
        """
        now = time.monotonic()
        if now - self._lag_at < conf().HEARTBEAT_SECONDS:
            return
        self._lag_at = now
        try:
            lag = source.lag()
            state.note_failure(self._config.name, "", using=self._using)
        except Exception as error:
            logger.debug("%s: the lag is unknown: %s", self._config.name, type(error).__name__)
            lag = None
        state.note_lag(self._config.name, lag, using=self._using)

    def _fail(self, error: Exception) -> None:
        self._give_up_source()
        name = self._config.name
        if is_transient(error, using=self._using):
            logger.warning("%s: the database failed. Receiving starts again: %s", name, error)
            return
        if isinstance(error, SourceUnavailable | ReportsNotRecorded):
            text = str(error)
            logger.warning("%s cannot receive, and tries again: %s", name, text)
        else:
            text = f"{type(error).__name__}. See the log of the receiver."
            logger.exception("%s cannot receive, and tries again.", name)
        with suppress(Exception):  # the database may be the cause
            state.note_failure(name, text, using=self._using)

    def _wait_for_database(self, seconds: float) -> bool:
        """Wait during an outage. Other processes get the messages meanwhile."""
        self._give_up_source()
        return self._stopping.wait(seconds)

    def _give_up_source(self) -> None:
        """Release the messages in hand, and close the source."""
        source, in_hand = self._source, self._in_hand
        self._source, self._in_hand = None, ()
        if source is None:
            return
        try:
            if in_hand:
                source.release(in_hand)
        except Exception as error:  # they return anyway, only later
            logger.info("%s: messages were not released: %s", source.name, type(error).__name__)
        try:
            source.close()
        except Exception as error:
            logger.info("%s: the client was not closed: %s", source.name, type(error).__name__)
