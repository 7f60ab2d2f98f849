"""Celery carries; it decides nothing. Read from the source of every module that is not a test's."""

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

    def test_sends_a_task_by_itself(self):
        found = {name: calls for name, tree in sources() if (calls := sendings_in(tree))}

        assert found.keys() == MAY_SEND


class TestTheLook:
    @pytest.mark.parametrize(
        ("breach", "found"),
        [
            ("send.apply_async(countdown=5)", {"countdown"}),
            ("@shared_task(autoretry_for=(OSError,))\ndef send(): ...", {"autoretry_for"}),
            ("raise self.retry(exc=error)", {"retry"}),
            ("actions.retry(rows, by='ann')", set()),
        ],
    )
    def test_sees_a_delay(self, breach: str, found: set[str]):
        assert delays_in(ast.parse(breach)) == found

    @pytest.mark.parametrize("breach", ["send.delay(1)", "app.send_task('x')", "a.b.apply_async()"])
    def test_sees_a_sending(self, breach: str):
        assert sendings_in(ast.parse(breach))
