from __future__ import annotations

import os
import threading
import time

from outbox.fork_safety import apart_from_forks


class TestAFork:
    def test_waits_until_a_thread_has_finished_with_the_database(self):
        """Without the lock: a child is born with a write lock of SQLite's that nobody holds."""
        steps: list[str] = []
        thread = threading.Thread(target=use_the_database, args=[begun := threading.Event(), steps])
        thread.start()
        begun.wait()

        child = os.fork()
        if child == 0:
            os._exit(0)
        steps.append("forked")
        os.waitpid(child, 0)
        thread.join()

        assert steps == ["used", "forked"]


def use_the_database(begun: threading.Event, steps: list[str]) -> None:
    with apart_from_forks():
        begun.set()
        time.sleep(0.2)
        steps.append("used")
