"""Calls of Celery tasks that the outbox could make safe, with file and line. The messages:

I001 on_commit sends a task, which is lost if the process ends before the callback has run
I002 a task is sent inside atomic, so a worker may start it before the commit, or despite a rollback

The check reads the source of the project's apps, so it only runs for `manage.py check --deploy`. It
follows names in the modules that are loaded: a call of an `OutboxTask` is safe, and so is `delay`
of anything that is no Celery task. A name that it cannot look up, such as a local variable, counts
as a task.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from django.apps import AppConfig, apps
from django.core.checks import CheckMessage, Info, register

from outbox.transports.names import celery_in_use

_AT_ONCE = {"delay", "apply_async"}
_AFTER_COMMIT = {"delay_on_commit", "apply_async_on_commit"}
#: Folders whose calls serve no request, and a virtual environment beside the app.
_NOT_SERVED = {"migrations", "tests", "site-packages"}

_TEXTS = {
    "outbox.I001": "{call} after the commit: the task is lost if the process ends before.",
    "outbox.I002": "{call} in a transaction: a worker may start it early, or despite a rollback.",
}
_HINT = "Give the task base=OutboxTask, and call its delay() in the transaction."


@register("outbox", deploy=True)
def check_celery_calls(**_kwargs: Any) -> list[CheckMessage]:
    """List plain Celery tasks that the project's apps send from on_commit or inside atomic."""
    if celery_in_use() is None:
        return []
    found = (one for config in apps.get_app_configs() for one in calls_of(config))
    # The folder of an app may hold another app, so a call may be found twice.
    return list({(one.obj, one.msg): one for one in found}.values())


def calls_of(config: AppConfig) -> Iterator[CheckMessage]:
    """Yield a message for each such call in an app's own files. Installed packages have none."""
    folder = Path(config.path)
    if "site-packages" in folder.parts:
        return
    for path in sorted(folder.rglob("*.py")):
        inner = path.relative_to(folder)
        if _NOT_SERVED.isdisjoint(inner.parts):
            module = ".".join((config.name, *inner.with_suffix("").parts)).removesuffix(".__init__")
            yield from _messages(path, getattr(sys.modules.get(module), "__dict__", {}))


def _messages(path: Path, names: dict[str, Any]) -> Iterator[CheckMessage]:
    shown = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError, OSError):  # nothing imports it: a template, or a broken link
        return
    for number, call in _sent(tree, in_atomic=False):
        if _may_be_plain_task(call.value, names):
            yield Info(
                _TEXTS[number].format(call=ast.unparse(call)),
                hint=_HINT,
                obj=f"{shown}:{call.lineno}",
                id=number,
            )


def _sent(node: ast.AST, *, in_atomic: bool) -> Iterator[tuple[str, ast.Attribute]]:
    """Yield the id of the message and the attribute, such as `task.delay`, of each call."""
    if isinstance(node, ast.Call) and _last_name(node.func) == "on_commit":
        late = _AT_ONCE | _AFTER_COMMIT
        for inner in ast.walk(node):
            if isinstance(inner, ast.Attribute) and inner.attr in late:
                yield "outbox.I001", inner
        return
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        if node.func.attr in _AFTER_COMMIT:
            yield "outbox.I001", node.func
        elif in_atomic and node.func.attr in _AT_ONCE:
            yield "outbox.I002", node.func
    for child in ast.iter_child_nodes(node):
        yield from _sent(child, in_atomic=in_atomic or _opens_transaction(node))


def _opens_transaction(node: ast.AST) -> bool:
    opened: list[ast.expr] = []
    if isinstance(node, ast.With):
        opened = [item.context_expr for item in node.items]
    elif isinstance(node, ast.FunctionDef):
        opened = node.decorator_list
    return any(_last_name(expression) == "atomic" for expression in opened)


def _last_name(node: ast.expr) -> str:
    if isinstance(node, ast.Call):
        node = node.func
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")


def _may_be_plain_task(node: ast.expr, names: dict[str, Any]) -> bool:
    try:
        found = _looked_up(node, names)
    except LookupError:
        return True
    # Only a task has both. max_bytes is the attribute of OutboxTask, which imports Celery.
    return hasattr(found, "apply_async") and not hasattr(found, "max_bytes")


def _looked_up(node: ast.expr, names: dict[str, Any]) -> Any:
    """Return the object of a dotted name of a module. Raise LookupError for anything else."""
    if isinstance(node, ast.Name):
        return names[node.id]
    if isinstance(node, ast.Attribute):
        return getattr(_looked_up(node.value, names), node.attr, None)
    raise LookupError
