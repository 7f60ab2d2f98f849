"""The fields of KEDA's objects that deploy/kubernetes may use, as JSON Schema.

It is stricter than the CRDs of KEDA 2.20: it refuses unknown fields, and checks the metadata of the
`metrics-api` scaler, which the CRDs accept as any strings. `KEDA_CRDS` names a folder with the CRDs
of a release of KEDA (`config/crd/bases` of its sources): objects are then validated by these, too.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import yaml

_NAME = {"type": "string", "minLength": 1}
_COUNT = {"type": "integer", "minimum": 0}
_METADATA = {
    "type": "object",
    "required": ["name", "namespace"],
    "properties": {"name": _NAME, "namespace": _NAME, "labels": {"type": "object"}},
    "additionalProperties": False,
}


def _object(kind: str, spec: dict[str, Any]) -> dict[str, Any]:
    properties = {
        "apiVersion": {"const": "keda.sh/v1alpha1"},
        "kind": {"const": kind},
        "metadata": _METADATA,
        "spec": spec,
    }
    return _closed(properties)


def _closed(properties: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of an object with all of these properties, and no other."""
    return {
        "type": "object",
        "properties": properties,
        "required": sorted(properties),
        "additionalProperties": False,
    }


#: The scaler's settings are strings, numbers included.
_TRIGGER = _closed(
    {
        "type": {"const": "metrics-api"},
        "metricType": {"enum": ["AverageValue", "Value"]},
        "authenticationRef": _closed({"name": _NAME}),
        "metadata": _closed(
            {
                "url": {"type": "string", "pattern": "^https?://"},
                "format": {"enum": ["prometheus", "json", "xml", "yaml"]},
                "valueLocation": _NAME,
                "targetValue": {"type": "string", "pattern": r"^[1-9]\d*$"},
                "authMode": {"enum": ["apiKey", "basic", "tls", "bearer", "custom", "oauth"]},
            }
        ),
    }
)
_BEHAVIORS = ["static", "currentReplicas", "currentReplicasIfHigher", "currentReplicasIfLower"]

SCHEMAS = {
    "ScaledObject": _object(
        "ScaledObject",
        _closed(
            {
                "scaleTargetRef": _closed({"name": _NAME}),
                "pollingInterval": {"type": "integer", "minimum": 1},
                "cooldownPeriod": _COUNT,
                "minReplicaCount": _COUNT,
                "maxReplicaCount": {"type": "integer", "minimum": 1},
                "fallback": _closed(
                    {
                        "failureThreshold": _COUNT,
                        "replicas": _COUNT,
                        "behavior": {"enum": _BEHAVIORS},
                    }
                ),
                "triggers": {"type": "array", "minItems": 1, "items": _TRIGGER},
            }
        ),
    ),
    "TriggerAuthentication": _object(
        "TriggerAuthentication",
        _closed(
            {
                "secretTargetRef": {
                    "type": "array",
                    "minItems": 1,
                    "items": _closed(
                        {"parameter": {"const": "token"}, "name": _NAME, "key": _NAME}
                    ),
                }
            }
        ),
    ),
}


def crds() -> dict[str, Any]:
    """Return the schema of each kind from the CRDs of `KEDA_CRDS`; skip the test without it."""
    folder = os.environ.get("KEDA_CRDS")
    if not folder:
        pytest.skip("KEDA_CRDS names no folder with KEDA's CRDs, so they were not used.")
    files = [yaml.safe_load(path.read_text()) for path in Path(folder).glob("keda.sh_*.yaml")]
    return {
        crd["spec"]["names"]["kind"]: crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
        for crd in files
    }
