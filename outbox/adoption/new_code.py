"""The event and the handler of a task, in `events.py` and `handlers.py` of its app."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import libcst as cst
import libcst.matchers as m

from outbox.events import app_label

from .imports import with_import
from .modules import module_name
from .to_event import Field, NotPossible, Plan


def files_of(plans: Iterable[Plan]) -> dict[Path, bytes]:
    """Return the new texts of `events.py` and `handlers.py` of the tasks' apps.

    Raises:
        NotPossible: a file has another event or function of that name.
        cst.ParserSyntaxError: a file that exists is no valid Python.
    """
    trees: dict[Path, cst.Module] = {}
    for plan in plans:
        for name, add in (("events.py", _with_event), ("handlers.py", _with_handler)):
            path = plan.folder / name
            tree = trees.get(path) or _tree(path)
            trees[path] = add(tree, plan)
    return {path: tree.bytes for path, tree in trees.items()}


def _tree(path: Path) -> cst.Module:
    return cst.parse_module(path.read_bytes() if path.exists() else b"")


def _defined(tree: cst.Module, name: str) -> cst.ClassDef | cst.FunctionDef | None:
    found = (one for one in tree.body if isinstance(one, cst.ClassDef | cst.FunctionDef))
    return next((one for one in found if one.name.value == name), None)


def _with_event(tree: cst.Module, plan: Plan) -> cst.Module:
    if (known := _defined(tree, plan.event)) is not None:
        names = {one.target.value for one in m.findall(known, m.AnnAssign(target=m.Name()))}  # type: ignore[attr-defined]  # matched
        if names != {one.name for one in plan.fields}:
            path = plan.folder / "events.py"
            raise NotPossible(f"{path} has another {plan.event}, with other fields")
        return tree
    required = [one for one in plan.fields if not one.default]
    fields = [*required, *(one for one in plan.fields if one.default)]
    lines = "".join(f"    {one.text}\n" for one in fields)
    task = plan.task.function.name.value
    text = (
        f'class {plan.event}(DomainEvent, key="{plan.key}"):\n'
        f'    """The work of the task {task} is requested."""\n\n{lines}'
    )
    tree = _appended(tree, text)
    return _with_imports(tree, [("outbox", "DomainEvent"), *_types(plan)])


def _with_handler(tree: cst.Module, plan: Plan) -> cst.Module:
    name = plan.task.function.name.value
    label = app_label(module_name(plan.folder / "events.py"))
    event = f'"{label}.{plan.event}"'
    if _defined(tree, name) is not None:
        if event not in tree.code or f"{plan.task.module.name.rpartition('.')[2]}.{name}(" not in (
            tree.code
        ):
            raise NotPossible(f"{plan.folder / 'handlers.py'} has another function {name}")
        return tree
    owner, _dot, module = plan.task.module.name.rpartition(".")
    params = ", ".join(["receipt: Receipt", *(one.text for one in _in_order(plan))])
    values = ", ".join(f"{one.name}={one.name}" for one in plan.fields)
    text = (
        f"@subscribe({event}, atomic=False)\n"
        f"def {name}({params}) -> None:\n"
        f'    """Do the work of the task {name}, then store the receipt."""\n'
        f"    {module}.{name}({values})\n"
        "    with receipt:\n"
        "        pass\n"
    )
    tree = _appended(tree, text)
    needed = [("outbox", "Receipt"), ("outbox", "subscribe"), (owner, module)]
    return _with_imports(tree, [*needed, *_types(plan)])


def _in_order(plan: Plan) -> list[Field]:
    required = [one for one in plan.fields if not one.default]
    return [*required, *(one for one in plan.fields if one.default)]


def _types(plan: Plan) -> list[tuple[str, str]]:
    return [imported for one in plan.fields for imported in one.imports]


def _with_imports(tree: cst.Module, names: Iterable[tuple[str, str]]) -> cst.Module:
    for owner, name in names:
        tree = with_import(tree, owner, name)
    return tree


def _appended(tree: cst.Module, text: str) -> cst.Module:
    code = tree.code
    if code and not code.endswith("\n"):
        code += "\n"
    return cst.parse_module((code + ("\n\n" if code else "") + text).encode(tree.encoding))
