"""Celery only carries messages. The tests read the source of every module outside tests."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# Options and methods by which Celery would keep a delay or a retry (rule 10).
DELAYS = {
    *("eta", "countdown", "autoretry_for", "default_retry_delay", "retry_backoff"),
    *("retry_kwargs", "retry_policy", "link", "link_error"),
}
# Ways to send a task (rule 12). Only the Celery transport and the doctor's canary use them, and the
# base of the project's tasks: it stores their calls, and its handler sends them.
SENDING = {"delay", "apply_async", "send_task"}
MAY_SEND = {"outbox/tasks.py", "outbox/transports/celery_broker.py"}
MAY_SEND |= {"outbox/celery_tasks/task.py", "outbox/celery_tasks/sending.py"}
# Only these of the outbox import Celery: the public module, the tasks and the Celery transport.
WITH_CELERY = {
    *("outbox/celery.py", "outbox/tasks.py"),
    *(f"outbox/transports/celery_{part}.py" for part in ("app", "broker", "connections")),
    *(f"outbox/transports/celery_{part}.py" for part in ("consumer", "producers", "settings")),
    *(f"outbox/transports/celery_{part}.py" for part in ("queues", "sqs", "worker")),
}
WITH_CELERY |= {f"outbox/celery_tasks/{part}.py" for part in ("options", "sending", "task")}
# Kombu is also the client library of sink and source of AMQP.
WITH_KOMBU = {*WITH_CELERY, "outbox/sinks/amqp.py", "outbox/sinks/amqp_link.py"}
WITH_KOMBU |= {"outbox/sources/amqp.py"}


@cache
def sources() -> tuple[tuple[str, ast.Module], ...]:
    # A hidden folder may be a virtual environment, with thousands of files.
    tops = [top for top in ROOT.iterdir() if not top.name.startswith(".")]
    tops = [top for top in tops if top.name not in {"tests", "benchmarks"}]
    paths = [path for top in tops for path in (top.rglob("*.py") if top.is_dir() else [top])]
    return tuple(
        (str(path.relative_to(ROOT)), ast.parse(path.read_text()))
        for path in sorted(paths)
        if path.suffix == ".py"
    )


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


class TestTheModulesOfTheOutbox:
    @pytest.mark.parametrize(
        ("library", "may_import"), [("celery", WITH_CELERY), ("kombu", WITH_KOMBU)]
    )
    def test_import_no_celery_but_those_of_its_transport(self, library: str, may_import: set[str]):
        found = {
            name
            for name, tree in sources()
            if name.startswith("outbox/") and library in _libraries(tree)
        }

        assert found - may_import == set()
        assert found, "The search finds nothing."

    @pytest.mark.parametrize("name", sorted(WITH_CELERY - {"outbox/transports/celery_app.py"}))
    def test_import_those_modules_only_within_functions(self, name: str):
        """Otherwise a project without Celery would need it to import the other module."""
        module = name.removesuffix(".py").replace("/", ".")

        found = [
            importer
            for importer, tree in sources()
            if importer.startswith("outbox/")
            and importer not in WITH_CELERY
            and module in _imported_at_the_top(importer, tree)
        ]

        assert found == []


def _libraries(tree: ast.Module) -> set[str]:
    return {name.partition(".")[0] for name in _imported("", ast.walk(tree))}


def _imported_at_the_top(importer: str, tree: ast.Module) -> set[str]:
    return set(_imported(importer, tree.body))


def _imported(importer: str, nodes: Iterable[ast.AST]) -> Iterator[str]:
    """Yield absolute names; `from x import y` gives x and x.y. Relative ones need the importer."""
    package = importer.split("/")[:-1]
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not (node.level and not importer):
            parts = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*parts, *([node.module] if node.module else [])])
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)


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
