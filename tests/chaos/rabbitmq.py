"""RabbitMQ as the broker of a stack: the system's program in a node of its own, or a given URL.

What is given must be a virtual host for tests alone: their queues are purged.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from amqp.exceptions import InternalError, NotFound
from kombu import Connection

from shop.up.ports import HOST, free_port
from tests.chaos.wiretap import Wiretap
from tests.chaos.wiretap_amqp import AmqpWiretap

#: The scripts themselves; those on the PATH change users.
PROGRAMS = Path("/usr/lib/rabbitmq/bin")
#: Seconds.
LONGEST_ELECTION = 60.0
#: The node copies each published message to the exchange amq.rabbitmq.trace.
TRACED = '{trace_vhosts, [<<"/">>]}'


class GivenRabbitMQ:
    """A broker that runs already, and is not started or stopped."""

    command: Sequence[str] = ()
    variables: Mapping[str, str] = {}

    def __init__(self, url: str, *, queues: Sequence[str]) -> None:
        self._queues = queues
        self.settings = {"AMQP_URL": url}

    def answers(self) -> bool:
        with contextlib.suppress(Exception), self._connection() as connection:
            connection.ensure_connection(max_retries=1, timeout=1)
            return True
        return False

    def wipe(self) -> None:
        """Take every message that waits in a queue."""
        for queue in self._queues:
            self._purge(queue)

    def _purge(self, queue: str) -> None:
        """Purge a queue. Just after a start a quorum queue has no leader, and answers 541."""
        until = time.monotonic() + LONGEST_ELECTION
        while True:
            try:
                with self._connection() as connection, contextlib.suppress(NotFound):
                    connection.channel().queue_purge(queue)
            except InternalError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.2)
            else:
                return

    def forget(self) -> None:
        """Fail: an external broker may hold other data."""
        raise NotImplementedError("A given broker keeps what it has.")

    def cut_clients(self) -> None:
        """Fail: an external broker may have other clients."""
        raise NotImplementedError("A given broker keeps its clients.")

    def queue_length(self, queue: str) -> int:
        with self._connection() as connection, contextlib.suppress(NotFound):
            return int(connection.channel().queue_declare(queue, passive=True).message_count)
        return 0

    def wiretap(self) -> Wiretap:
        """Return the wiretap. It records with the node's tracer, repeats and shuffles messages."""
        return AmqpWiretap(self.settings["AMQP_URL"], queues=self._queues)

    def clean_up(self) -> None:
        """Purge the queues of the tests."""
        with contextlib.suppress(Exception):
            self.wipe()

    def _connection(self) -> Connection:
        return Connection(self.settings["AMQP_URL"], connect_timeout=2)


class RabbitMQ(GivenRabbitMQ):
    """A separate node: loopback only, its own folder, port mapper and cookie.

    `configuration`: settings of the application `rabbit`, by the names of its environment.
    """

    def __init__(
        self,
        folder: Path,
        *,
        queues: Sequence[str],
        configuration: Mapping[str, int] | None = None,
    ) -> None:
        program = PROGRAMS / "rabbitmq-server"
        if not program.exists():
            raise FileNotFoundError(f"RabbitMQ needs {program}: apt-get install rabbitmq-server.")
        port = free_port()
        super().__init__(f"amqp://guest:guest@{HOST}:{port}//", queues=queues)
        folder.mkdir(parents=True, exist_ok=True)
        # The default of RabbitMQ 4; that of 3.10 is 128 MiB.
        (folder / "rabbitmq.conf").write_text(
            f"listeners.tcp.1 = {HOST}:{port}\nmax_message_size = {16 * 1024 * 1024}\n"
        )
        terms = [TRACED, *(f"{{{name}, {value}}}" for name, value in (configuration or {}).items())]
        (folder / "advanced.config").write_text(f"[{{rabbit, [{', '.join(terms)}]}}].\n")
        self._folder = folder
        self.command = [str(program)]
        self.variables = self._variables(port)

    def forget(self) -> None:
        """Delete the files of a stopped node, so that it starts empty."""
        shutil.rmtree(self._folder / "data", ignore_errors=True)

    def cut_clients(self) -> None:
        """Close all connections; the node's own command does it."""
        self._control("close_all_connections", "chaos", timeout=30)

    @contextmanager
    def without_leader(self, queue: str) -> Iterator[None]:
        """Stop the only member of a quorum queue for the block.

        The node routes messages to it and confirms none, as in a cluster whose majority is lost.
        """
        member = f"quorum_queues, {{'%2F_{queue}', node()}}"
        self._evaluate(f"ra:stop_server({member}).")
        try:
            yield
        finally:
            self._evaluate(f"ra:restart_server({member}).")

    def store_definitions(self) -> None:
        """Write queues, exchanges and bindings to disk. The node acknowledges them before."""
        self._evaluate("mnesia:sync_log().")

    def _evaluate(self, expression: str) -> None:
        """Run an expression of Erlang in the node; it has to return "ok"."""
        ended = self._control("eval", expression, timeout=None)
        assert ended.stdout.split()[-1:] == ["ok"], f"{expression} {ended.stdout} {ended.stderr}"

    def _control(self, *arguments: str, timeout: float | None) -> subprocess.CompletedProcess[str]:
        command = [str(PROGRAMS / "rabbitmqctl"), *arguments]
        variables = {**os.environ, **self.variables}
        return subprocess.run(
            command, env=variables, capture_output=True, text=True, check=False, timeout=timeout
        )

    def clean_up(self) -> None:
        """End the port mapper: it was started as a daemon, and outlives its node."""
        command = ["epmd", "-port", self.variables["ERL_EPMD_PORT"], "-kill"]
        subprocess.run(command, capture_output=True, check=False)

    def _variables(self, port: int) -> dict[str, str]:
        folder = self._folder
        return {
            "HOME": str(folder),
            "ERL_EPMD_ADDRESS": HOST,
            "ERL_EPMD_PORT": str(free_port()),
            "ERL_EPMD_RELAXED_COMMAND_CHECK": "true",  # it may be ended before it misses its node
            "RABBITMQ_NODENAME": f"chaos{port}@localhost",
            "RABBITMQ_DIST_PORT": str(free_port()),
            "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.conf"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(folder / "advanced.config"),
            "RABBITMQ_MNESIA_BASE": str(folder / "data"),
            "RABBITMQ_LOG_BASE": str(folder / "log"),
            "ERL_CRASH_DUMP": str(folder / "erl_crash.dump"),  # else in the working directory
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
        }
