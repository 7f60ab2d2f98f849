"""The Celery tasks of a project, as their decorators declare them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import libcst as cst

from .modules import Module, dotted

BASE = "outbox.celery.OutboxTask"
_SHARED = frozenset({"celery.shared_task", "celery.app.shared_task"})


@dataclass
class Task:
    """A function with a decorator that makes it a task.

    Attributes:
        name: dotted name of the function.
        decorator: the decorator that makes it a task.
        is_stored: whether its base is `OutboxTask`.
        reasons: why its base cannot be changed; empty if it can.
        twin: another file that declares a task of this name.
    """

    name: str
    module: Module
    function: cst.FunctionDef
    decorator: cst.Decorator
    is_stored: bool = False
    reasons: list[str] = field(default_factory=list)
    twin: Path | None = None

    @property
    def options(self) -> Mapping[str, cst.BaseExpression]:
        """The keywords of its decorator."""
        call = self.decorator.decorator
        given = call.args if isinstance(call, cst.Call) else ()
        return {one.keyword.value: one.value for one in given if one.keyword is not None}


class Tasks:
    """The tasks of some modules by their dotted names."""

    def __init__(self, modules: Sequence[Module]) -> None:
        self.modules = {one.name: one for one in modules}
        self.by_name: dict[str, Task] = {}
        for task in (one for module in modules for one in declared_in(module)):
            known = self.by_name.setdefault(task.name, task)
            if known is not task:
                known.twin = task.module.path
                known.reasons.append(f"{task.module.path} declares {task.name}, too")

    def find(self, module: Module, node: cst.CSTNode) -> Task | None:
        """Return the task that an expression names, or None."""
        name = module.full_name(node)
        for _hop in range(5):  # modules that import it and are imported from
            if name in self.by_name:
                return self.by_name[name]
            owner, _dot, attribute = name.rpartition(".")
            imported = self.modules[owner].global_import(attribute) if owner in self.modules else ""
            if not imported or imported == name:
                return None
            name = imported
        return None


def declared_in(module: Module) -> Iterator[Task]:
    """Yield the tasks that are declared at the top level of a module."""
    for node in module.tree.body:
        if not isinstance(node, cst.FunctionDef):
            continue
        for decorator in node.decorators:
            if _makes_task(module, decorator):
                yield _task(module, node, decorator)
                break


def _makes_task(module: Module, decorator: cst.Decorator) -> bool:
    called = decorator.decorator
    function = called.func if isinstance(called, cst.Call) else called
    if module.full_name(function) in _SHARED:
        return True
    if not isinstance(function, cst.Attribute) or function.attr.value != "task":
        return False
    owner = dotted(function.value).rpartition(".")[2].lower()
    return "app" in owner.split("_") or "celery" in owner


def _task(module: Module, node: cst.FunctionDef, decorator: cst.Decorator) -> Task:
    task = Task(f"{module.name}.{node.name.value}", module, node, decorator)
    base = task.options.get("base")
    task.is_stored = base is not None and module.full_name(base) == BASE
    task.reasons.extend(_reasons(task, base))
    return task


def _reasons(task: Task, base: cst.BaseExpression | None) -> Iterator[str]:
    call = task.decorator.decorator
    given = call.args if isinstance(call, cst.Call) else ()
    if not task.module.is_assigned_once(task.function.name.value):
        yield f"its module assigns {task.function.name.value} more than once"
    if not task.module.means(BASE.rpartition(".")[2], BASE):
        yield "its module has another OutboxTask"
    if any(one.keyword is None for one in given):
        yield "its decorator has arguments without a name"
    if base is not None and not task.is_stored:
        yield f"its base is {task.module.code(base)}: derive that class from OutboxTask"
    serializer = task.options.get("serializer")
    if serializer is not None and task.module.code(serializer) not in ("'json'", '"json"'):
        yield f"its serializer is {task.module.code(serializer)}, and a stored call is JSON"
    if task.function.asynchronous is not None:
        yield "it is async"
