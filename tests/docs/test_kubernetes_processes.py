"""The processes of deploy/kubernetes start, answer their probes and stop, outside of a cluster.

Their commands, variables and probes are those of the manifests. bubblewrap stands for the pod: a
read-only file system, another user than root, and no capability.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from urllib.request import Request, urlopen

import pytest

from shop.up.ports import HOST, free_port
from tests.chaos.broker import Valkey
from tests.databases import fresh_database
from tests.docs import confined
from tests.docs.manifests import Pod, of_kind, overlay, pod, settings_of
from tests.docs.pages import ROOT
from tests.processes import NOTHING_GIVEN, Running, children, eventually

CEILING = 240.0  # seconds; reaching it is a failure, not a measurement
TOKEN = "a-token-that-only-the-scraper-knows"
PROGRAMS = Path(sys.prefix) / "bin"


class Cluster:
    """Starts the containers of an overlay, each as Kubernetes would."""

    def __init__(self, database_url: str, redis_url: str) -> None:
        self.objects = overlay("valkey")
        self.port = free_port()
        self._secrets = {
            "SECRET_KEY": "of-a-test-0123456789-0123456789-0123456789-0123456789",
            "DATABASE_URL": database_url,
            "REDIS_URL": redis_url,
            "BANK_API_KEY": "key",
            "BANK_WEBHOOK_SECRETS": "secret",
            "EMAIL_URL": f"smtp://{HOST}:{free_port()}",
            "METRICS_TOKEN": TOKEN,
        }

    def start(self, name: str) -> Running:
        """Start the container of an object."""
        one = pod(self.objects, name)
        return self._run(one, one.command() or image_command())

    def probe(self, name: str) -> Running:
        """Run the command of a pod's liveness probe."""
        one = pod(self.objects, name)
        return self._run(one, one.container["livenessProbe"]["exec"]["command"])

    def _run(self, one: Pod, command: list[str]) -> Running:
        program, *arguments = [word.replace("0.0.0.0:8000", self.address) for word in command]
        path = PROGRAMS / program
        words = [str(path) if path.exists() else program, *arguments]
        return Running(
            [*confined.bubblewrap([]), *words], environment=self._environment(one), folder=ROOT
        )

    def _environment(self, one: Pod) -> dict[str, str | None]:
        optional = {name for name, ref in one.secrets().items() if ref.get("optional")}
        given = {
            name: self._secrets[name]
            for name in one.secrets()
            if name in self._secrets or name not in optional
        }
        own = {**settings_of(self.objects), **one.variables(), **given}
        inherited = dict.fromkeys(set(os.environ) - {"PATH", "HOME", "LANG"})
        return {**NOTHING_GIVEN, **inherited, "PATH": f"{PROGRAMS}:{os.environ['PATH']}", **own}

    @property
    def address(self) -> str:
        return f"{HOST}:{self.port}"

    def get(self, path: str, *, token: str = "") -> str:
        """Return the web's answer; "" if it is no success."""
        request = Request(f"http://{self.address}{path}")
        if token:
            request.add_header("Authorization", f"Bearer {token}")
        try:
            with urlopen(request) as answer:
                return str(answer.read().decode())
        except OSError:
            return ""


def image_command() -> list[str]:
    text = (ROOT / "deploy/Dockerfile").read_text().rpartition("CMD ")[2]
    words: list[str] = json.loads(text.replace("\\\n", ""))
    return words


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    if lacking := confined.missing():
        pytest.skip(f"No pod was imitated, since this machine lacks {', '.join(lacking)}.")
    with ExitStack() as cleanup:
        broker = Valkey(tmp_path)
        server = Running(broker.command, environment=broker.variables, folder=tmp_path)
        cleanup.callback(server.end_for_sure)
        eventually(broker.answers, "the broker answers")
        yield Cluster(cleanup.enter_context(fresh_database("postgresql")), broker.url)


@pytest.mark.postgresql
@pytest.mark.processes
@pytest.mark.timeout(900)
class TestTheContainers:
    def test_work(self, cluster: Cluster):
        with ExitStack() as cleanup:
            migration = cluster.start("migrate")
            assert migration.ends(within=CEILING) == 0, migration.output
            names = ("web", "relay", "worker-inventory", "beat")
            running = {name: cluster.start(name) for name in (*names, "prune")}
            for one in running.values():
                cleanup.callback(one.end_for_sure)

            for path in probed_paths(cluster):
                eventually(partial(cluster.get, path), f"the web answers at {path}", within=CEILING)
            for name in ("relay", "worker-inventory"):
                probe = partial(answers, cluster, name)
                eventually(probe, f"{name} answers its probe", within=CEILING)
            found = cluster.get(requested_by_keda(cluster), token=TOKEN)
            running["beat"].says(r"Sending due task outbox\.relay", within=CEILING)

            assert [one for one in wanted_by_keda(cluster) if f"\n{one} 0.0\n" not in found] == []
            assert [name for name in names if running[name].has_ended] == []
            for name in names:
                terminate(running[name])
            codes = {name: one.ends(within=CEILING) for name, one in running.items()}
            assert codes == dict.fromkeys(running, 0)


def terminate(one: Running) -> None:
    """Send SIGTERM to the container's process, a child of bubblewrap."""
    (pid,) = children(one.pid)
    os.kill(pid, signal.SIGTERM)


def answers(cluster: Cluster, name: str) -> bool:
    """Whether a pod's probe succeeds, which starts Django each time."""
    return cluster.probe(name).ends(within=CEILING) == 0


def probed_paths(cluster: Cluster) -> set[str]:
    """Return the addresses of the web's probes."""
    return {probe["httpGet"]["path"] for probe in pod(cluster.objects, "web").probes()}


def requested_by_keda(cluster: Cluster) -> str:
    """Return path and query of the address that all scaled objects request."""
    (url,) = {
        one["spec"]["triggers"][0]["metadata"]["url"]
        for one in of_kind(cluster.objects, "ScaledObject")
    }
    return "/" + str(url).split("/", 3)[3]


def wanted_by_keda(cluster: Cluster) -> list[str]:
    """Return the series that the scaled objects read."""
    return [
        one["spec"]["triggers"][0]["metadata"]["valueLocation"]
        for one in of_kind(cluster.objects, "ScaledObject")
    ]
