"""The check that lists Celery tasks which a project may lose, or start too early."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest
from celery import shared_task
from django.apps import AppConfig, apps
from django.core.checks.registry import registry

from outbox.celery import OutboxTask
from outbox.checks.celery_calls import calls_of, check_celery_calls


@shared_task
def plain() -> None:
    """A task of Celery alone."""


@shared_task(base=OutboxTask)
def stored() -> None:
    """A task whose calls are stored with the transaction."""


@pytest.fixture
def found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Return a function that gives the numbers of messages and lines of an app with a module."""
    folder = tmp_path / "tests" / "labels"  # a project may lie in a folder called tests
    folder.mkdir(parents=True)
    module = ModuleType("labels.services")
    module.__dict__.update(plain=plain, stored=stored, tasks=sys.modules[__name__], queue=object())
    monkeypatch.setitem(sys.modules, "labels.services", module)
    package = ModuleType("labels")
    package.__path__ = [str(folder)]
    monkeypatch.setitem(sys.modules, "labels", package)
    monkeypatch.chdir(folder.parent)

    def find(text: str, name: str = "services.py") -> list[tuple[str, str]]:
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        messages = calls_of(AppConfig("labels", package))
        return [(str(one.id).removeprefix("outbox."), str(one.obj)) for one in messages]

    return find


@pytest.mark.parametrize(
    "line",
    [
        "on_commit(lambda: plain.delay(1))",
        "transaction.on_commit(plain.delay)",
        "transaction.on_commit(partial(tasks.plain.apply_async, (1,)), using='other')",
        "plain.delay_on_commit(1)",
        "on_commit(lambda: imported_below.delay(1))",
    ],
)
def test_a_task_that_is_sent_after_the_commit_is_listed(found, line: str):
    assert found(f"\n{line}\n") == [("I001", "labels/services.py:2")]


@pytest.mark.parametrize(
    "text",
    [
        "with atomic():\n    plain.delay()",
        "with open(path), transaction.atomic(using='other'):\n    plain.apply_async()",
        "@transaction.atomic\ndef f():\n    for one in 1, 2: plain.delay(one)",
    ],
)
def test_a_task_that_is_sent_in_a_transaction_is_listed(found, text: str):
    assert [number for number, _ in found(text)] == ["I002"]


@pytest.mark.parametrize(
    "text",
    [
        "plain.delay()",
        "with atomic():\n    stored.delay()",
        "on_commit(lambda: tasks.stored.delay())",
        "with atomic():\n    queue.delay()",
        "on_commit(lambda: print(plain))",
    ],
)
def test_a_safe_call_is_not_listed(found, text: str):
    assert found(text) == []


@pytest.mark.parametrize(
    "name", ["tests/test_plain.py", "migrations/0001_initial.py", "site-packages/any.py"]
)
def test_a_folder_that_serves_no_request_is_not_read(found, name: str):
    assert found("plain.delay_on_commit()", name) == []


def test_a_file_that_is_no_python_is_left_out(found):
    assert found("{{ name }}.delay(") == []


def test_an_app_inside_another_is_listed_once(found, monkeypatch: pytest.MonkeyPatch):
    found("plain.delay_on_commit()")
    config = AppConfig("labels", sys.modules["labels"])
    monkeypatch.setattr(apps, "get_app_configs", lambda: [config, config])

    assert [one.id for one in check_celery_calls()] == ["outbox.I001"]


def test_it_reads_the_source_only_for_a_deployment():
    assert check_celery_calls in registry.get_checks(include_deployment_checks=True)
    assert check_celery_calls not in registry.get_checks()
