"""The change to an event: the call becomes `emit()`, and a new handler calls the task's function.

The handler is not atomic, because the function of a task may call external systems. So it runs as
in Celery: outside of a transaction, and again after a failure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import libcst as cst

from outbox.events import FACTS, DomainEvent

from .arguments import NotPossible as NotPossible
from .arguments import has_long_text, of_apply_async, refuse_stars
from .calls import surroundings
from .findings import Change
from .lateness import substituted
from .modules import Module, module_name
from .rewriting import Rewriting
from .tasks import Task

#: Modules from which a type of an argument is imported. Other types are written as Any.
_TYPES_FROM = frozenset({"collections.abc", "datetime", "decimal", "typing", "uuid"})
_BUILTINS = frozenset({"bool", "dict", "float", "int", "list", "None", "str"})
_LITERALS = {"Integer": "int", "Float": "float", "SimpleString": "str"}
#: Options of a task that a handler does not need: it has no result, and its receipt is late.
_WITHOUT_EFFECT = frozenset({"acks_late", "ignore_result", "name", "shared", "track_started"})
#: Beginnings of names that pydantic keeps for itself.
_NO_FIELDS = ("_", "model_")
#: Longest line of a statement that is written in one line.
_LONGEST = 88


@dataclass(frozen=True)
class Field:
    """A field of the event: a parameter of the task's function.

    Attributes:
        default: text of the default, or "".
        imports: (module, name) of the type's names.
    """

    name: str
    type: str
    default: str
    imports: tuple[tuple[str, str], ...] = ()

    @property
    def text(self) -> str:
        """The field as it stands in a class or in the head of a function."""
        return f"{self.name}: {self.type}" + (f" = {self.default}" if self.default else "")


@dataclass(frozen=True)
class Plan:
    """The event and the handler of a task."""

    task: Task
    fields: tuple[Field, ...]

    @property
    def event(self) -> str:
        """The name of the event's class: `SendLabelRequested` for `send_label`."""
        words = self.task.function.name.value.split("_")
        return "".join(word[:1].upper() + word[1:] for word in words) + "Requested"

    @property
    def key(self) -> str:
        """The first field with an id, or else the first field."""
        ids = [one.name for one in self.fields if one.name in ("id", "pk")]
        ids += [one.name for one in self.fields if one.name.endswith(("_id", "_pk"))]
        return [*ids, self.fields[0].name][0]

    @property
    def folder(self) -> Path:
        """The folder of the task's app."""
        start = folder = self.task.module.path.resolve().parent
        while (folder / "__init__.py").exists():
            if (folder / "apps.py").exists() or (folder / "models.py").exists():
                return folder
            folder = folder.parent
        return start


def plan_of(task: Task) -> Plan:
    """Return the event and the handler of a task.

    Raises:
        NotPossible: its parameters do not fit the fields of an event.
    """
    if task.function.asynchronous is not None:
        raise NotPossible("the task is async")
    if task.twin is not None:
        raise NotPossible(f"{task.twin} declares {task.name}, too")
    _refuse_options(task)
    if "." not in task.module.name:
        raise NotPossible("the module of the task is in no package")
    params = task.function.params
    if isinstance(params.star_arg, cst.Param) or params.star_kwarg is not None:
        raise NotPossible("the task takes any number of arguments")
    if params.posonly_params:
        raise NotPossible("the task has parameters without a name")
    given = [*params.params, *params.kwonly_params]
    if not given:
        raise NotPossible("the task has no argument that could be the event's key")
    if taken := [one.name.value for one in given if one.name.value in FACTS]:
        raise NotPossible(f"{taken[0]} is the name of a fact of each event")
    names = [one.name.value for one in given]
    if taken := [one for one in names if hasattr(DomainEvent, one) or one.startswith(_NO_FIELDS)]:
        raise NotPossible(f"{taken[0]} cannot be the name of a field")
    return Plan(task, tuple(_field(task.module, one) for one in given))


def _refuse_options(task: Task) -> None:
    """Refuse a task with options that a handler would not have."""
    if "bind" in task.options:
        raise NotPossible("the task is bound: its function takes the running task")
    call = task.decorator.decorator
    if any(one.keyword is None for one in (call.args if isinstance(call, cst.Call) else ())):
        raise NotPossible("the decorator of the task has arguments without a name")
    kept = {*_WITHOUT_EFFECT, *(["base"] if task.is_stored else [])}
    if lost := sorted(set(task.options) - kept):
        raise NotPossible(f"the task has the option {lost[0]}, which belongs to the handler")


def _field(module: Module, param: cst.Param) -> Field:
    default = ""
    if param.default is not None:
        if not _is_literal(param.default):
            raise NotPossible(f"the default of {param.name.value} is no literal")
        default = module.code(param.default)
    if param.annotation is not None:
        found = _imports_of(module, param.annotation.annotation)
        if found is not None:
            return Field(
                param.name.value, module.code(param.annotation.annotation), default, tuple(found)
            )
    kind = _LITERALS.get(type(param.default).__name__, "")
    if default in ("True", "False"):
        kind = "bool"
    imports = () if kind else (("typing", "Any"),)
    return Field(param.name.value, kind or "Any", default, imports)


def _is_literal(node: cst.BaseExpression) -> bool:
    if isinstance(node, cst.Name):
        return node.value in ("None", "True", "False")
    return isinstance(node, cst.Integer | cst.Float | cst.SimpleString)


def _imports_of(module: Module, node: cst.CSTNode) -> list[tuple[str, str]] | None:
    """Return the imports of a type's names; None if one of them cannot be imported."""
    if isinstance(node, cst.Attribute | cst.SimpleString | cst.ConcatenatedString):
        return None
    if isinstance(node, cst.Name):
        if node.value in _BUILTINS:
            return []
        owner, _dot, name = module.full_name(node).rpartition(".")
        return [(owner, name)] if owner in _TYPES_FROM and name == node.value else None
    found: list[tuple[str, str]] = []
    for child in node.children:
        more = _imports_of(module, child)
        if more is None:
            return None
        found += more
    return found


def statement_of(change: Change, plan: Plan) -> str:
    """Return the text of the statement that emits the event.

    Raises:
        NotPossible: an argument of the call has no place in the event.
    """
    sending = change.sending
    around = surroundings(sending.module, sending.node, atomic_requests=False)
    if around.statement is None or len(around.statement.body) > 1:
        raise NotPossible("the value of the call is used")
    _refuse_other_names(change, plan)
    given, delay = _arguments(change, plan)
    text = _emission(plan.event, given, delay)
    if change.is_atomic:
        return text
    indented = text.replace("\n", "\n    ")
    return f"with transaction.atomic():\n    {indented}"


def _refuse_other_names(change: Change, plan: Plan) -> None:
    """Refuse a call where a name of the new text means something else."""
    module, node = change.sending.module, change.sending.node
    event = f"{module_name(plan.folder / 'events.py')}.{plan.event}"
    names = {"outbox.emit": "emit", event: plan.event, "datetime.timedelta": "timedelta"}
    if not change.is_atomic:
        names["django.db.transaction"] = "transaction"
    for full, name in names.items():
        if not module.means(name, full, node):
            raise NotPossible(f"{name} has another meaning here")


def _emission(event: str, given: Mapping[str, str], delay: str) -> str:
    values = [f"{name}={value}" for name, value in given.items()]
    later = f", delay=timedelta(seconds={delay})" if delay else ""
    line = f"emit({event}({', '.join(values)}){later})"
    if len(line) <= _LONGEST and "\n" not in line:
        return line
    lines = "".join(f"        {value},\n" for value in values)
    return f"emit(\n    {event}(\n{lines}    ){later}\n)"


def _arguments(change: Change, plan: Plan) -> tuple[dict[str, str], str]:
    """Return the text of each field, and that of the delay in seconds, or ""."""
    sending = change.sending
    code = sending.module.code
    args = substituted(sending.args, sending.callback)
    if sending.method.startswith("apply_async"):
        ordered, named, delay = of_apply_async(args, code=sending.module.code)
    else:
        refuse_stars(args)
        ordered = [one.value for one in args if one.keyword is None]
        named = {one.keyword.value: one.value for one in args if one.keyword is not None}
        delay = ""
    names = [one.name for one in plan.fields]
    if len(ordered) > len(names):
        raise NotPossible("the call has more arguments than the task")
    values = dict(zip(names, ordered, strict=False)) | named
    if unknown := set(values) - set(names):
        raise NotPossible(f"the task has no parameter {sorted(unknown)[0]}")
    texts = {name: code(value) for name, value in values.items()}
    if any(has_long_text(value) for value in values.values()):
        raise NotPossible("an argument is a text of several lines")
    return texts, delay


def rewrite(made: Iterable[tuple[Change, Plan, str]], rewritings: dict[Path, Rewriting]) -> None:
    """Add the statements that emit events to the rewritings, by the paths of modules."""
    for change, plan, text in made:
        module = change.sending.module
        mine = rewritings[module.path]
        mine.statements[change.sending.node] = text
        mine.imports["outbox", "emit"] = None
        mine.imports[module_name(plan.folder / "events.py"), plan.event] = None
        if "timedelta(" in text:
            mine.imports["datetime", "timedelta"] = None
        if not change.is_atomic:
            mine.imports["django.db", "transaction"] = None
        owner, _dot, name = change.task.module.name.rpartition(".")
        mine.unused[change.task.module.name, change.task.function.name.value] = None
        mine.unused[owner, name] = None
