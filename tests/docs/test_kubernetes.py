"""The manifests of deploy/kubernetes are valid, and suit the processes, queues and settings."""

from __future__ import annotations

import copy
import json
import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]  # it has no types
from kubernetes_validate import utils

from outbox.metrics.families import OF_QUEUES
from outbox.subscriptions import queues
from outbox.transports.base import QUEUE
from shop.celery import app
from tests.docs import keda
from tests.docs.manifests import (
    KUBERNETES,
    OVERLAYS,
    Manifest,
    Pod,
    built,
    missing_for,
    named,
    of_kind,
    open_ports,
    overlay,
    pod,
    pods,
    settings_of,
)
from tests.docs.pages import ROOT, Page
from tests.docs.test_configuration import variables
from tests.docs.test_deploy import APPS, COMPOSE, SINKS_QUEUE, refuse_unknown_options
from webhooks import addresses

pytestmark = pytest.mark.once

NEWEST = [".".join(one.split(".")[:2]) for one in utils.all_versions()[-3:]]
SCALED = ("rabbitmq", "valkey")
SECRETS = {"shop", "valkey"}
BROKER_PORTS: dict[str, set[int | str]] = {
    "valkey": {6379},
    "development": {6379},
    "rabbitmq": {5671, 5672},
}
PAGE = Page("docs/how-to/run-on-kubernetes.md")

each_overlay = pytest.mark.parametrize("name", OVERLAYS)
each_scaled_overlay = pytest.mark.parametrize("name", SCALED)


def secret_settings() -> set[str]:
    """Return the variables that contain a secret, but for the broker's URL, which overlays add."""
    words = {"KEY", "PASSWORD", "SECRET", "SECRETS", "TOKEN"}
    named_so = {name for name in variables() if words & set(name.split("_"))}
    return {"DATABASE_URL", "EMAIL_URL", "OUTBOX", *named_so}


def own_queues() -> set[str]:
    """The queues of all handlers of the project, those of apps that a team adds included."""
    return set().union(*queues().values()) - {QUEUE}


def is_kedas(one: Manifest) -> bool:
    return str(one["apiVersion"]).startswith("keda.sh/")


#: Most objects of the overlays are the same, and each validation reads megabytes of definitions.
_valid: set[str] = set()


def validate(one: Manifest) -> None:
    if (text := json.dumps(one, sort_keys=True)) in _valid:
        return
    for version in NEWEST:
        kubernetes_validate.validate(one, version, strict=True)
    _valid.add(text)


@pytest.fixture(autouse=True, scope="module")
def _definitions_are_read_once() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(utils, "schema_contents", cache(utils.schema_contents))
        yield


class TestAnObject:
    @each_overlay
    def test_is_valid_for_the_three_newest_releases_of_kubernetes(self, name: str):
        for one in overlay(name):
            if not is_kedas(one):
                validate(one)

    def test_is_refused_with_an_unknown_field(self):
        wrong = copy.deepcopy(named(overlay("valkey"), "Deployment", "web"))
        wrong["spec"]["template"]["spec"]["containers"][0]["redinessProbe"] = {}

        with pytest.raises(kubernetes_validate.ValidationError):
            validate(wrong)

    @each_overlay
    def test_is_in_the_namespace_of_the_shop(self, name: str):
        for one in overlay(name):
            assert one["kind"] == "Namespace" or one["metadata"]["namespace"] == "shop"

    @each_overlay
    def test_is_no_secret(self, name: str):
        assert of_kind(overlay(name), "Secret") == []
        text = "".join(path.read_text() for path in KUBERNETES.rglob("*") if path.is_file())
        assert re.findall(r"(?i)(?:password|token|key)=\S+", text) == []

    @each_overlay
    def test_refers_to_what_exists(self, name: str):
        objects = overlay(name)
        there = {(one["kind"], one["metadata"]["name"]) for one in objects}
        for one in pods(objects):
            for given in one.container.get("envFrom", ()):
                assert ("ConfigMap", given["configMapRef"]["name"]) in there
            if account := one.spec.get("serviceAccountName"):
                assert ("ServiceAccount", account) in there
            assert {ref["name"] for ref in one.secrets().values()} <= SECRETS

    def test_that_the_migration_needs_is_created_with_it(self):
        """`kubectl apply -l shop/stage=prepare` creates these before all others."""
        first = [
            (one["kind"], one["metadata"]["name"].rpartition("-")[0] or one["metadata"]["name"])
            for one in overlay("valkey")
            if one["metadata"].get("labels", {}).get("shop/stage") == "prepare"
        ]

        assert sorted(first) == [
            ("ConfigMap", "shop"),
            ("Job", "migrate"),
            ("Namespace", "shop"),
            ("ServiceAccount", "shop"),
        ]


@each_overlay
class TestEachPod:
    def test_is_confined(self, name: str):
        for one in pods(overlay(name)):
            whole, own = one.spec["securityContext"], one.container["securityContext"]

            assert whole["runAsNonRoot"], one.name
            assert whole["runAsUser"] > 0, one.name
            assert whole["seccompProfile"] == {"type": "RuntimeDefault"}, one.name
            assert own == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }, one.name
            assert one.spec["automountServiceAccountToken"] is False, one.name
            assert one.spec["enableServiceLinks"] is False, one.name

    def test_may_write_only_to_limited_volumes(self, name: str):
        for one in pods(overlay(name)):
            sizes = [volume["emptyDir"]["sizeLimit"] for volume in one.spec.get("volumes", ())]

            assert len(one.container["volumeMounts"]) == 1, one.name
            assert sizes == (["64Mi"] if one.container["name"] == "shop" else []), one.name

    def test_requests_resources_and_limits_its_memory(self, name: str):
        for one in pods(overlay(name)):
            given = one.container["resources"]

            assert set(given["requests"]) == {"cpu", "memory"}, one.name
            assert megabytes(given["limits"]) > megabytes(given["requests"]), one.name

    def test_spreads_with_those_of_the_same_process(self, name: str):
        for one in pods(overlay(name)):
            if one.is_of_the_shop and one.owner["kind"] == "Deployment":
                keys = [spread["topologyKey"] for spread in one.spec["topologySpreadConstraints"]]
                assert keys == ["topology.kubernetes.io/zone", "kubernetes.io/hostname"], one.name


class TestAnImage:
    @each_scaled_overlay
    def test_is_named_by_a_digest_that_the_user_has_to_set(self, name: str):
        images = {one.container["image"] for one in pods(overlay(name))}

        assert images
        assert [one for one in images if not one.endswith(f"@sha256:{'0' * 64}")] == []


def megabytes(given: dict[str, str]) -> int:
    match = re.fullmatch(r"(\d+)(Mi|Gi)", given["memory"])
    assert match
    return int(match[1]) * (1024 if match[2] == "Gi" else 1)


def of_the_shop(name: str) -> list[Pod]:
    return [one for one in pods(overlay(name)) if one.is_of_the_shop]


@each_overlay
class TestEachProcess:
    def test_has_only_variables_that_the_settings_read(self, name: str):
        read = set(variables()) | set(re.findall(r'"([A-Z_]+)"', text_of("gunicorn.conf.py")))
        own = {"QUEUE", "POD_NAME", "CONCURRENCY"}  # of its command

        given = set(settings_of(overlay(name)))
        for one in of_the_shop(name):
            given |= set(one.secrets()) | (set(one.variables()) - own)

        assert given - read == set()

    def test_has_the_settings_of_compose(self, name: str):
        """But those for a trial, and those whose default is none."""
        not_here = {"WEBHOOK_PRIVATE_HOSTS", "OTEL_EXPORTER_OTLP_ENDPOINT", "TRACE_URL"}
        broker = "AMQP_URL" if name == "rabbitmq" else "REDIS_URL"
        wanted = set(COMPOSE["x-app"]["environment"]) - not_here - {"REDIS_URL"}

        for one in of_the_shop(name):
            needed = wanted | ({broker} if one.owner["kind"] == "Deployment" else set())
            given = set(settings_of(overlay(name))) | set(one.secrets())
            assert needed - given == set(), one.name

    def test_has_each_secret_of_the_settings(self, name: str):
        """Seen to fail for STRIPE_API_KEY, without which migrate ends with payments.E005."""
        for one in of_the_shop(name):
            assert secret_settings() - set(one.secrets()) == set(), one.name

    def test_needs_the_keys_of_one_gateway_only(self, name: str):
        for one in of_the_shop(name):
            for key in ("BANK_API_KEY", "STRIPE_API_KEY"):
                assert one.secrets()[key]["optional"] is True, one.name

    def test_has_options_that_exist(self, name: str):
        for one in pods(overlay(name)):
            if one.container["name"] == "shop" and one.command():
                refuse_unknown_options(one.command())

    def test_is_one_of_compose(self, name: str):
        """The names of nodes differ, and the number of a worker's processes may."""
        known = {
            without_names(one["command"])
            for one in COMPOSE["services"].values()
            if "command" in one
        }
        prune = ("python", "manage.py", "outbox", "prune", "--older-than", "90d")

        ours = {without_names(one.command()) for one in of_the_shop(name) if one.command()}

        assert ours - known == {prune}

    def test_has_more_time_to_stop_than_it_needs(self, name: str):
        gunicorn: dict[str, Any] = {}
        exec(text_of("gunicorn.conf.py"), gunicorn)
        for one in of_the_shop(name):
            grace = one.spec.get("terminationGracePeriodSeconds", 30)
            if one.name == "web":
                sleep = one.container["lifecycle"]["preStop"]["sleep"]["seconds"]
                assert grace > sleep + gunicorn["graceful_timeout"]
            elif one.owner["kind"] == "Deployment" and one.name != "beat":
                assert grace > float(settings_of(overlay(name))["WORKER_GRACE"]), one.name

    def test_that_consumes_a_queue_is_probed_through_it(self, name: str):
        for one in of_the_shop(name):
            words = one.command()
            if "-Q" not in words:
                continue
            assert len(one.probes()) == 2
            for probe in one.probes():
                shell, option, line = probe["exec"]["command"]
                for variable, value in one.variables().items():
                    line = line.replace(f"${variable}", value)
                program = shlex.split(line.removeprefix("exec "))
                refuse_unknown_options(program)
                assert (shell, option) == ("sh", "-c")
                assert program[program.index("--queue") + 1] == words[words.index("-Q") + 1]
                assert program[program.index("--worker") + 1] == words[words.index("-n") + 1]
                assert probe["timeoutSeconds"] > int(program[program.index("--timeout") + 1])

    def test_of_beat_is_the_only_one(self, name: str):
        beat = pod(overlay(name), "beat").owner["spec"]

        assert beat["replicas"] == 1
        assert beat["strategy"] == {"type": "Recreate"}


def text_of(name: str) -> str:
    return (ROOT / name).read_text()


def without_names(words: list[str]) -> tuple[str, ...]:
    """Return a command without the values of -n and -c."""
    changing = {place + 1 for place, word in enumerate(words) if word in ("-n", "-c")}
    return tuple(word for place, word in enumerate(words) if place not in changing)


class TestEachQueue:
    @each_overlay
    def test_has_a_worker_and_no_other_queue_has_one(self, name: str):
        needed = {SINKS_QUEUE, *own_queues()}

        assert missing_for(overlay(name), needed, scaled=False) == []
        assert pod(overlay(name), "relay").command()[5] == QUEUE

    @each_scaled_overlay
    def test_is_scaled_by_keda(self, name: str):
        objects = overlay(name)
        kept = [one for one in objects if one["metadata"]["name"] != "worker-outbox-sinks"]

        assert missing_for(kept, own_queues(), scaled=True) == []

    def test_of_a_new_app_is_named(self):
        found = missing_for(
            overlay("valkey"), {"tracking", SINKS_QUEUE, *own_queues()}, scaled=True
        )

        assert found[0].startswith("The queue tracking has no Deployment. Copy the one of")
        assert any(one.startswith("The queue tracking has no ScaledObject.") for one in found)

    def test_that_no_handler_has_is_named(self):
        found = missing_for(
            overlay("valkey"), {SINKS_QUEUE, *own_queues()} - {"webhooks"}, scaled=False
        )

        assert found == [
            "The Deployment of the queue webhooks has no handler. Remove it from deploy/kubernetes."
        ]

    def test_is_not_one_of_the_shop_alone(self):
        assert {queue for one in APPS for queue in queues()[one]} <= own_queues()


@each_scaled_overlay
class TestAScaledObject:
    def test_is_valid(self, name: str):
        found = [one for one in overlay(name) if is_kedas(one)]

        assert len(found) == len(own_queues()) + 1
        for one in found:
            Draft202012Validator(keda.SCHEMAS[one["kind"]]).validate(one)

    def test_is_valid_for_keda(self, name: str):
        schemas = keda.crds()
        for one in overlay(name):
            if is_kedas(one):
                Draft202012Validator(schemas[one["kind"]]).validate(one)

    @pytest.mark.parametrize(
        ("path", "value"),
        [
            (("spec", "minReplicas"), 0),
            (("spec", "triggers"), []),
            (("spec", "triggers", 0, "metadata", "targetValue"), 2),
            (("spec", "triggers", 0, "metadata", "value"), "2"),
        ],
        ids=lambda value: str(value),
    )
    def test_is_refused_with_a_mistake(self, name: str, path: tuple[Any, ...], value: Any):
        wrong = copy.deepcopy(of_kind(overlay(name), "ScaledObject")[0])
        place: Any = wrong
        for step in path[:-1]:
            place = place[step]
        place[path[-1]] = value

        assert not Draft202012Validator(keda.SCHEMAS["ScaledObject"]).is_valid(wrong)

    def test_divides_the_number_of_its_queue_by_the_processes_of_a_pod(self, name: str):
        for one in of_kind(overlay(name), "ScaledObject"):
            scaled = pod(overlay(name), one["spec"]["scaleTargetRef"]["name"])
            given = one["spec"]["triggers"][0]["metadata"]
            metric = given["url"].rpartition("?name[]=")[2]

            assert metric in OF_QUEUES
            assert given["valueLocation"] == f'{metric}{{queue="{scaled.queue}"}}'
            assert given["targetValue"] == scaled.variables()["CONCURRENCY"]
            assert one["metadata"]["labels"]["shop/queue"] == scaled.queue

    def test_is_the_only_one_that_sets_the_number_of_pods(self, name: str):
        targets = {
            one["spec"]["scaleTargetRef"]["name"] for one in of_kind(overlay(name), "ScaledObject")
        }
        set_here = {one.name for one in pods(overlay(name)) if "replicas" in one.owner["spec"]}

        assert targets & set_here == set()

    def test_keeps_a_pod_for_periodic_tasks(self, name: str):
        """They are no deliveries, so they do not count as work of their queue."""
        periodic = {
            entry.get("options", {}).get("queue") for entry in app.conf.beat_schedule.values()
        }

        for one in of_kind(overlay(name), "ScaledObject"):
            is_periodic = one["metadata"]["labels"]["shop/queue"] in periodic
            assert one["spec"]["minReplicaCount"] == (1 if is_periodic else 0), one["metadata"][
                "name"
            ]

    def test_requests_the_service_of_the_web_with_the_token(self, name: str):
        service = named(overlay(name), "Service", "web")
        (port,) = service["spec"]["ports"]
        (access,) = of_kind(overlay(name), "TriggerAuthentication")
        (token,) = access["spec"]["secretTargetRef"]
        own = pod(overlay(name), "web").secrets()["METRICS_TOKEN"]

        host = f"web.{service['metadata']['namespace']}.svc.cluster.local:{port['port']}"
        for one in of_kind(overlay(name), "ScaledObject"):
            assert one["spec"]["triggers"][0]["metadata"]["url"].startswith(
                f"http://{host}/metrics?"
            )
        assert (token["name"], token["key"]) == (own["name"], own["key"])

    def test_needs_no_more_connections_than_the_page_states(self, name: str):
        """A worker has one for each process and one for its heartbeat, a relay three."""
        most = 2 * 3 + 2 * 2 * 4
        for one in of_kind(overlay(name), "ScaledObject"):
            processes = int(one["spec"]["triggers"][0]["metadata"]["targetValue"])
            most += one["spec"]["maxReplicaCount"] * (processes + 1)

        assert f"up to {most} connections" in PAGE.text


@each_scaled_overlay
class TestABudget:
    def test_blocks_no_node_by_pods_that_are_not_ready(self, name: str):
        """Seen to fail: with the default, no node could be drained while the database was down."""
        budgets = of_kind(overlay(name), "PodDisruptionBudget")

        policies = {one["spec"].get("unhealthyPodEvictionPolicy") for one in budgets}
        assert len(budgets) == 3
        assert policies == {"AlwaysAllow"}


class TestTheTrial:
    def test_has_the_simulated_bank_of_compose(self):
        bank = pod(overlay("development"), "bank")

        assert bank.command() == COMPOSE["services"]["bank"]["command"]
        assert settings_of(overlay("development"))["BANK_URL"] == "http://bank:8090"

    def test_has_one_pod_of_each_process_and_no_budget(self):
        objects = overlay("development")

        assert of_kind(objects, "PodDisruptionBudget", "ScaledObject") == []
        assert {one["spec"]["replicas"] for one in of_kind(objects, "Deployment")} == {0, 1}


class TestTheBroker:
    def test_is_started_as_in_compose(self):
        """Without the folder, which is the image's there, and with the password's variable."""
        ours = pod(overlay("valkey"), "valkey").command()
        place = ours.index("--dir")

        theirs = COMPOSE["services"]["valkey"]["command"]
        password = theirs[theirs.index("--requirepass") + 1]
        assert [*ours[:place], *ours[place + 2 :]] == [
            "$(BROKER_PASSWORD)" if word == password else word for word in theirs
        ]


class TestTheSinksAndSources:
    def test_are_started_by_a_component(self, tmp_path: Path):
        folder = KUBERNETES / "overlays" / f"test-{tmp_path.name}"
        folder.mkdir()
        try:
            parts = ["sinks-keda", "keda", "valkey", "sources"]
            (folder / "kustomization.yaml").write_text(
                yaml.safe_dump(
                    {
                        "namespace": "shop",
                        "resources": ["../../base"],
                        "components": [f"../../components/{part}" for part in parts],
                    }
                )
            )
            objects = built(f"overlays/{folder.name}")
        finally:
            (folder / "kustomization.yaml").unlink()
            folder.rmdir()

        assert pod(objects, "receive").owner["spec"]["replicas"] == 1
        assert missing_for(objects, {SINKS_QUEUE, *own_queues()}, scaled=True) == []
        for one in objects:
            if is_kedas(one):
                Draft202012Validator(keda.SCHEMAS[one["kind"]]).validate(one)

    @each_overlay
    def test_are_not_started_without_it(self, name: str):
        for process in ("receive", "worker-outbox-sinks"):
            assert pod(overlay(name), process).owner["spec"]["replicas"] == 0


@each_overlay
class TestTheNetwork:
    def test_is_closed_but_for_what_is_stated(self, name: str):
        (closed,) = (
            one["spec"]
            for one in of_kind(overlay(name), "NetworkPolicy")
            if one["metadata"]["name"] == "default-deny"
        )

        assert closed == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}

    def test_lets_each_process_reach_what_it_needs(self, name: str):
        outside: dict[str, set[int | str]] = {
            "payments.gateway": {443},
            "webhooks.http": set(addresses.PORTS),
            "notifications.smtp": {465, 587},
        }
        for one in of_the_shop(name):
            needed = {53, 5432} | outside.get(one.queue, set())
            if one.owner["kind"] == "Deployment":
                needed |= BROKER_PORTS[name]
            if name == "development" and one.queue == "payments.gateway":
                needed |= {8090}
            assert open_ports(overlay(name), one, "egress") == needed, one.name

    def test_lets_the_reconciliation_query_the_bank(self, name: str):
        """Seen to fail for the queue orders, from whose pods nothing outside can be reached."""
        queue = app.conf.beat_schedule["shop.reconcile"]["options"]["queue"]
        workers = {one.queue: one for one in of_the_shop(name) if one.queue}

        bank = open_ports(overlay(name), workers["payments.gateway"], "egress")
        assert bank - open_ports(overlay(name), workers[queue], "egress") == set()

    def test_lets_only_servers_be_reached(self, name: str):
        servers: dict[str, set[int | str]] = {"web": {"http"}, "valkey": {6379}, "bank": {"http"}}
        for one in pods(overlay(name)):
            assert open_ports(overlay(name), one, "ingress") == servers.get(one.name, set()), (
                one.name
            )
