"""Celery only carries messages. The tests read the source of every module outside tests."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# Options and methods by which Celery would keep a delay or a retry (rule 10).
DELAYS = {
    *("eta", "countdown", "autoretry_for", "default_retry_delay", "retry_backoff"),
    *("retry_kwargs", "retry_policy", "link", "link_error"),
}
# Ways to send a task (rule 12). Only the Celery transport and the doctor's canary use them.
SENDING = {"delay", "apply_async", "send_task"}
MAY_SEND = {"outbox/tasks.py", "outbox/transports/celery_broker.py"}
# Where events are stored and run, only the Celery transport knows Celery.
WITHOUT_CELERY = {
    *("contracts", "counting", "deliveries", "management", "metrics", "models", "monitor"),
    *("operations", "privacy", "reconciliation", "relay", "retention", "worker"),
}
CELERY_TRANSPORT = {"celery.py", "celery_broker.py", "celery_consumer.py", "celery_sqs.py"}


def sources() -> Iterator[tuple[str, ast.Module]]:
    for path in sorted(ROOT.rglob("*.py")):
        name = path.relative_to(ROOT)
        if not name.parts[0].startswith(".") and name.parts[0] not in {"tests", "benchmarks"}:
            yield str(name), ast.parse(path.read_text())


def delays_in(tree: ast.AST) -> set[str]:
    keywords = {node.arg for node in ast.walk(tree) if isinstance(node, ast.keyword)}
    return {name for name in keywords if name in DELAYS} | _retried(tree)


def sendings_in(tree: ast.AST) -> set[str]:
    calls = (node.func for node in ast.walk(tree) if isinstance(node, ast.Call))
    return {call.attr for call in calls if isinstance(call, ast.Attribute)} & SENDING


def _retried(tree: ast.AST) -> set[str]:
    """`self.retry(...)` of a bound task, `current_task.retry(...)`."""
    calls = (node.func for node in ast.walk(tree) if isinstance(node, ast.Call))
    return {
        "retry"
        for call in calls
        if isinstance(call, ast.Attribute)
        and call.attr == "retry"
        and ast.unparse(call.value) in {"self", "current_task", "task"}
    }


class TestNoModule:
    def test_leaves_a_delay_or_a_retry_to_celery(self):
        found = {name: delays for name, tree in sources() if (delays := delays_in(tree))}

        assert found == {}

    def test_sends_a_task_directly(self):
        found = {name: calls for name, tree in sources() if (calls := sendings_in(tree))}

        assert found.keys() == MAY_SEND


class TestTheRoomsThatRunEvents:
    def test_import_no_celery(self):
        found = [name for name, tree in sources() if _is_without(name) and _imports_celery(tree)]

        assert found == []

    def test_are_not_the_celery_transport(self):
        assert _is_without("outbox/emission.py")
        assert _is_without("outbox/transports/inline.py")
        assert not _is_without("outbox/transports/celery.py")
        assert _imports_celery(ast.parse("def send():\n    from kombu import Queue"))


def _is_without(name: str) -> bool:
    parts = Path(name).parts
    if parts[0] != "outbox" or name == "outbox/tasks.py":
        return False
    if parts[1] == "transports":
        return parts[-1] not in CELERY_TRANSPORT
    return len(parts) == 2 or parts[1] in WITHOUT_CELERY


def _imports_celery(tree: ast.AST) -> bool:
    modules: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            modules.add(node.module or "")
    return any(name.partition(".")[0] in {"celery", "kombu"} for name in modules)


class TestTheSearch:
    @pytest.mark.parametrize(
        ("breach", "found"),
        [
            ("send.apply_async(countdown=5)", {"countdown"}),
            ("@shared_task(autoretry_for=(OSError,))\ndef send(): ...", {"autoretry_for"}),
            ("raise self.retry(exc=error)", {"retry"}),
            ("actions.retry(rows, by='ann')", set()),
        ],
    )
    def test_finds_a_delay(self, breach: str, found: set[str]):
        assert delays_in(ast.parse(breach)) == found

    @pytest.mark.parametrize("breach", ["send.delay(1)", "app.send_task('x')", "a.b.apply_async()"])
    def test_finds_a_sent_task(self, breach: str):
        assert sendings_in(ast.parse(breach))
