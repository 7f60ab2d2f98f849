"""Read deploy/kubernetes: build an overlay, and list its objects, pods and processes."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import pytest
import yaml

from tests.docs.pages import ROOT

KUBERNETES = ROOT / "deploy/kubernetes"
OVERLAYS = tuple(sorted(path.name for path in (KUBERNETES / "overlays").iterdir()))
#: Kinds of objects with pods, each with the path of the pod's template.
_TEMPLATES = {
    "Deployment": ("spec", "template"),
    "StatefulSet": ("spec", "template"),
    "Job": ("spec", "template"),
    "CronJob": ("spec", "jobTemplate", "spec", "template"),
}

#: libyaml reads ten times as fast.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

Manifest = dict[str, Any]


@cache
def built(folder: str) -> list[Manifest]:
    """Return the objects of a folder of deploy/kubernetes, such as "overlays/valkey"."""
    if not shutil.which("kubectl"):
        pytest.skip("kubectl is not on PATH, so deploy/kubernetes was not built.")
    made = subprocess.run(
        ["kubectl", "kustomize", KUBERNETES / folder], capture_output=True, text=True
    )
    assert made.returncode == 0, made.stderr
    return list(yaml.load_all(made.stdout, Loader=_LOADER))


def overlay(name: str) -> list[Manifest]:
    return built(f"overlays/{name}")


def of_kind(objects: Sequence[Manifest], *kinds: str) -> list[Manifest]:
    return [one for one in objects if one["kind"] in kinds]


def named(objects: Sequence[Manifest], kind: str, name: str) -> Manifest:
    (found,) = (one for one in of_kind(objects, kind) if one["metadata"]["name"] == name)
    return found


@dataclass(frozen=True)
class Pod:
    """The pod of an object, with its only container.

    Attributes:
        owner: the object.
        labels: labels of the pod.
        spec: its specification.
    """

    owner: Manifest
    labels: Mapping[str, str]
    spec: Mapping[str, Any]

    @property
    def name(self) -> str:
        return str(self.owner["metadata"]["name"])

    @property
    def container(self) -> Mapping[str, Any]:
        (only,) = self.spec["containers"]
        return only  # type: ignore[no-any-return]  # of a file

    @property
    def is_of_the_shop(self) -> bool:
        """Whether it runs the shop's image, and is no simulated bank."""
        return self.container["name"] == "shop" and self.name != "bank"

    @property
    def queue(self) -> str:
        return self.labels.get("shop/queue", "")

    def variables(self) -> dict[str, str]:
        """Return the variables with a value of their own: a constant, or a fact about the pod."""
        facts = {"metadata.labels['shop/queue']": self.queue, "metadata.name": f"{self.name}-0"}
        found = {}
        for one in self.container.get("env", ()):
            if "value" in one:
                found[one["name"]] = one["value"]
            elif path := one["valueFrom"].get("fieldRef", {}).get("fieldPath"):
                found[one["name"]] = facts[path]
        return found

    def secrets(self) -> dict[str, Mapping[str, Any]]:
        """Return the variables that come from a Secret, with their references."""
        found = ((one["name"], one.get("valueFrom", {})) for one in self.container.get("env", ()))
        return {name: given["secretKeyRef"] for name, given in found if "secretKeyRef" in given}

    def command(self) -> list[str]:
        """Return the command as Kubernetes expands it; empty: it is the image's."""
        return [self.expanded(word) for word in self.container.get("command", ())]

    def expanded(self, word: str) -> str:
        """Replace $(NAME) as Kubernetes does. Other references stay."""
        given = self.variables()
        return re.sub(r"\$\((\w+)\)", lambda match: given.get(match[1], match[0]), word)

    def probes(self) -> list[Mapping[str, Any]]:
        """Return the probes that exist, each with its kind of check."""
        kinds = ("startupProbe", "readinessProbe", "livenessProbe")
        return [self.container[kind] for kind in kinds if kind in self.container]


def pods(objects: Sequence[Manifest]) -> Iterator[Pod]:
    for one in of_kind(objects, *_TEMPLATES):
        template: Any = one
        for step in _TEMPLATES[one["kind"]]:
            template = template[step]
        yield Pod(one, template["metadata"]["labels"], template["spec"])


def pod(objects: Sequence[Manifest], name: str) -> Pod:
    (found,) = (one for one in pods(objects) if one.name == name)
    return found


def settings_of(objects: Sequence[Manifest]) -> dict[str, str]:
    """Return the content of the ConfigMap that all processes share."""
    (found,) = of_kind(objects, "ConfigMap")
    return dict(found["data"])


def missing_for(objects: Sequence[Manifest], queues: set[str], *, scaled: bool) -> list[str]:
    """Return what queues lack, and which queues have a worker and no handler.

    Args:
        queues: the queues that need a worker.
        scaled: whether each needs a scaled object, too.
    """
    kinds = ["Deployment", *(["ScaledObject"] if scaled else [])]
    found = []
    for kind in kinds:
        rows = of_kind(objects, kind)
        there = {one["metadata"].get("labels", {}).get("shop/queue") for one in rows} - {None}
        for queue in sorted(queues - there):
            found.append(
                f"The queue {queue} has no {kind}. Copy the one of the queue orders in "
                "deploy/kubernetes, and set its name, its label shop/queue and its numbers."
            )
        found += [
            f"The {kind} of the queue {queue} has no handler. Remove it from deploy/kubernetes."
            for queue in sorted(there - queues)
        ]
    return found


def selects(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Return whether a label selector selects a pod with these labels."""
    equal = selector.get("matchLabels", {}).items() <= labels.items()
    terms = selector.get("matchExpressions", ())
    assert {term["operator"] for term in terms} <= {"In"}
    return equal and all(labels.get(term["key"]) in term["values"] for term in terms)


def open_ports(objects: Sequence[Manifest], one: Pod, direction: str) -> set[int | str]:
    """Return the ports on which the policies let a pod connect ("egress") or be reached."""
    found: set[int | str] = set()
    for policy in of_kind(objects, "NetworkPolicy"):
        if selects(policy["spec"]["podSelector"], one.labels):
            for rule in policy["spec"].get(direction, ()):
                assert rule.get("ports"), "A rule without ports opens all."
                found |= {port["port"] for port in rule["ports"]}
    return found
