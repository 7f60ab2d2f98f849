"""The units of deploy/systemd are valid and confined, and their services work."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.request import urlopen
from uuid import uuid4

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from shop.up.ports import HOST, free_port
from tests.chaos.broker import Valkey
from tests.databases import fresh_database
from tests.docs import confined
from tests.docs.pages import ROOT
from tests.processes import NOTHING_GIVEN, Running, eventually
from tests.servers.kafka import KafkaServer

SYSTEMD = ROOT / "deploy/systemd"
SERVICES = sorted(path.name for path in SYSTEMD.glob("*.service"))
#: The exposure that `systemd-analyze security` reports; 10 is a service without any restriction.
MOST = 3.0
CEILING = 120.0  # seconds; reaching it is a failure, not a measurement

needs_systemd_analyze = pytest.mark.skipif(
    not shutil.which("systemd-analyze"),
    reason="There is no systemd-analyze on PATH, so the units were not analysed.",
)


def exposure(unit: Path) -> float:
    shown = subprocess.run(
        ["systemd-analyze", "--no-pager", "security", "--offline=true", unit],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    found = re.search(r"Overall exposure level for \S+: ([\d.]+)", shown)
    assert found, shown
    return float(found[1])


@needs_systemd_analyze
class TestAUnit:
    @pytest.mark.parametrize("name", SERVICES)
    def test_is_confined(self, name: str):
        assert exposure(SYSTEMD / name) <= MOST

    def test_is_exposed_without_the_sandbox(self, tmp_path: Path):
        shutil.copy(SYSTEMD / "shop-web.service", tmp_path)

        assert exposure(tmp_path / "shop-web.service") > MOST

    def test_is_valid(self, tmp_path: Path):
        shutil.copytree(SYSTEMD, tmp_path, dirs_exist_ok=True)
        for unit in tmp_path.glob("*.service"):
            here = unit.read_text().replace("/srv/shop/.venv/bin/", f"{sys.prefix}/bin/")
            unit.write_text(here)
        units = [path for path in tmp_path.iterdir() if path.is_file()]

        done = subprocess.run(
            ["systemd-analyze", "verify", "--man=no", *units], capture_output=True, text=True
        )

        assert (done.returncode, done.stderr) == (0, "")


class Services:
    """Starts the services of the units, confined, with a new database and broker."""

    def __init__(self, folder: Path, database_url: str, redis_url: str) -> None:
        self.port = free_port()
        writable = [database_url.removeprefix("sqlite:///").rpartition("/")[0]]
        self._writable = writable if database_url.startswith("sqlite") else []
        self._folder = folder
        self._environment: dict[str, str | None] = {
            **NOTHING_GIVEN,
            "DATABASE_URL": database_url,
            "REDIS_URL": redis_url,
            "SECRET_KEY": "of-a-test-0123456789-0123456789-0123456789-0123456789",
            "ALLOWED_HOSTS": HOST,
            "BANK_URL": "https://bank.example.com",
            "LOG_FORMAT": "plain",
            "WORKER_GRACE": "2",
        }

    def set(self, **variables: str) -> None:
        """Set variables for all services that are started from now on."""
        self._environment.update(variables)

    def start(self, name: str, *, instance: str = "") -> Running:
        command = [*self._confinement(), *self.command(name, instance)]
        return Running(command, environment=self._environment, folder=ROOT)

    def command(self, name: str, instance: str) -> list[str]:
        """The `ExecStart=` of a unit, with a free port in place of 8000."""
        text = (SYSTEMD / name).read_text()
        line = re.findall(r"^ExecStart=(.*)$", text, re.MULTILINE)[0]
        filled = line.replace("%%", "%").replace("%i", instance).replace("${CONCURRENCY}", "2")
        program, *arguments = shlex.split(filled.replace(":8000", f":{self.port}"))
        return [str(Path(sys.prefix) / "bin" / Path(program).name), *arguments]

    def _confinement(self) -> list[str]:
        writable = [word for folder in self._writable for word in ("--writable", folder)]
        return [sys.executable, "-m", "tests.docs.confined", *writable, "--"]

    def is_ready(self) -> bool:
        try:
            with urlopen(f"http://{HOST}:{self.port}/readyz") as answer:
                return bool(answer.status == 200)
        except OSError:
            return False


@pytest.fixture
def services(tmp_path: Path) -> Iterator[Services]:
    if lacking := confined.missing():
        pytest.skip(f"No service was run confined, since this machine lacks {', '.join(lacking)}.")
    with ExitStack() as cleanup:
        broker = Valkey(tmp_path)
        server = Running(broker.command, environment=broker.variables, folder=tmp_path)
        cleanup.callback(server.end_for_sure)
        eventually(broker.answers, "the broker answers")
        yield Services(tmp_path, cleanup.enter_context(fresh_database()), broker.url)


@pytest.mark.processes
@pytest.mark.timeout(600)
class TestConfinedServices:
    def test_work(self, services: Services):
        with ExitStack() as cleanup:
            assert services.start("shop-migrate.service").ends(within=CEILING) == 0
            running = {
                name: services.start(f"shop-{name}.service", instance="inventory")
                for name in ("web", "relay", "worker@", "beat")
            }
            for one in running.values():
                cleanup.callback(one.end_for_sure)

            eventually(services.is_ready, "the web answers at /readyz", within=CEILING)
            running["beat"].says(r"Sending due task outbox\.relay", within=CEILING)
            for name in ("relay", "worker@"):  # a probe waits for a running worker alone
                running[name].says(r"\bready\.", within=CEILING)
            for queue in ("inventory", "outbox"):
                # A task goes through the broker to a process of the worker's pool and back.
                probe = services.start("shop-probe@.service", instance=queue)
                assert probe.ends(within=CEILING) == 0, probe.output
            assert services.start("shop-prune.service").ends(within=CEILING) == 0

            assert [name for name, one in running.items() if one.has_ended] == []
            assert [one.output for one in running.values() if "not permitted" in one.output] == []

    @pytest.mark.once
    def test_receive_from_kafka(self, services: Services, kafka: KafkaServer):
        """The client library is in C. Its threads and sockets work within the sandbox."""
        topic, group = kafka.create_topic(), uuid4().hex
        source = {
            "BACKEND": "outbox.sources.kafka.KafkaSource",
            "TOPICS": [topic],
            "GROUP": group,
            "OPTIONS": {"bootstrap.servers": kafka.bootstrap_servers},
        }
        services.set(OUTBOX=json.dumps({"SOURCES": {"billing": source}}))
        assert services.start("shop-migrate.service").ends(within=CEILING) == 0
        producer = Producer({"bootstrap.servers": kafka.bootstrap_servers})
        producer.produce(topic, value="no CloudEvent")
        assert producer.flush(30) == 0

        running = services.start("shop-receive.service")
        try:
            running.says("Receiving: billing", within=CEILING)
            # An acknowledgement follows the commit of the stored message.
            eventually(lambda: acknowledged(kafka, topic, group) == 1, "the message is stored")
            assert not running.has_ended
        finally:
            running.end_for_sure()
        assert "not permitted" not in running.output


def acknowledged(kafka: KafkaServer, topic: str, group: str) -> int:
    """Return the offset that the consumer group has committed."""
    consumer = Consumer({"bootstrap.servers": kafka.bootstrap_servers, "group.id": group})
    try:
        [place] = consumer.committed([TopicPartition(topic, 0)], timeout=30)
        return int(place.offset)
    finally:
        consumer.close()


class TestTheConfinementOfATest:
    """It refuses the same access as the units. Otherwise the test above would show nothing."""

    @pytest.mark.parametrize(
        "attempt",
        [
            "open('/srv/x', 'w')",
            "import mmap; mmap.mmap(-1, 4096, prot=7)",
            "import socket; socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)",
            "import os; os.chown('/tmp', 0, 0)",
            "import os; os.nice(1)",
        ],
    )
    def test_refuses_access(self, attempt: str):
        if lacking := confined.missing():
            pytest.skip(f"Nothing was confined, since this machine lacks {', '.join(lacking)}.")
        program = f"try: {attempt}\nexcept OSError as error: print('refused:', error)"

        done = subprocess.run(
            [sys.executable, "-m", "tests.docs.confined", "--", sys.executable, "-c", program],
            cwd=ROOT,
            capture_output=True,
            text=True,
        )

        assert done.stdout.startswith("refused: [Errno"), done
