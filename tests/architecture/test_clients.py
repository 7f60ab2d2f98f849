"""A client library of an external system is imported only by the sink or source that needs it."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
OUTBOX = ROOT / "outbox"

#: The modules of `outbox/sinks/` and `outbox/sources/` that may import each library.
CLIENTS = {
    "confluent_kafka": ("kafka",),
    "boto3": ("aws",),
    "botocore": ("aws",),
    "nats": ("nats",),
    "amqp": ("amqp",),
    "redis": ("redis_streams",),
    "httpcore": ("http", "timed_http"),
}
#: Further importers. Celery brings amqp.
ALSO = {"amqp": {"transports/celery_queues.py"}}
#: They come with no other package that the outbox needs.
OPTIONAL = ("confluent_kafka", "boto3", "botocore", "nats")


@cache
def imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {one.name for one in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names.add(node.module or "")
    return {name.partition(".")[0] for name in names}


def is_allowed(path: Path, client: str) -> bool:
    parts = path.relative_to(OUTBOX).parts
    if "/".join(parts) in ALSO.get(client, ()):
        return True
    if parts[0] not in {"sinks", "sources"}:
        return False
    return parts[1].removesuffix(".py").startswith(CLIENTS[client])


@pytest.mark.parametrize("client", CLIENTS)
def test_a_client_library_is_imported_by_its_own_modules_only(client: str):
    importers = [path for path in OUTBOX.rglob("*.py") if client in imported(path)]

    assert importers
    assert [str(path) for path in importers if not is_allowed(path, client)] == []


def test_an_outbox_without_sinks_imports_no_optional_client_library():
    code = (
        "import sys, django; django.setup()\n"
        "from django.core.management import call_command; call_command('check')\n"
        f"print(*[name for name in {OPTIONAL!r} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, "DJANGO_SETTINGS_MODULE": "tests.outbox.project.settings"},
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stdout.splitlines()[-1].strip() == ""
