"""Which calls are changed, and which are listed for a person, with the reason and the next step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import libcst as cst
import libcst.matchers as m

from . import lateness
from .calls import (
    SIGNATURES,
    Opaque,
    Sending,
    Surroundings,
    calls_in,
    database_of,
    sendings_in,
    surroundings,
)
from .modules import Module
from .tasks import Task, Tasks

#: Options of `apply_async` that `OutboxTask` refuses.
_REFUSED = frozenset({"connection", "publisher", "router", "chord"})
_CANVAS = {"celery.chord": "chord", "celery.group": "group", "celery.chain": "chain"}
#: Attributes of a result that need no answer of a worker.
_OF_RESULT = frozenset({"id", "task_id"})

_BY_HAND = "Call emit() in the transaction, and send the task in a handler."


@dataclass(frozen=True, order=True)
class Finding:
    """A call that is not changed.

    Attributes:
        reason: why not, as the end of a sentence.
        step: the next step.
    """

    path: Path
    line: int
    reason: str
    step: str


@dataclass(frozen=True)
class Change:
    """A call that is changed.

    Attributes:
        is_atomic: whether a transaction is open around it, as far as the text shows.
    """

    sending: Sending
    task: Task
    is_atomic: bool


@dataclass
class Findings:
    """The calls that are changed, and those that are listed."""

    changes: list[Change] = field(default_factory=list)
    listed: list[Finding] = field(default_factory=list)

    def add(self, module: Module, node: cst.CSTNode, reason: str, step: str) -> None:
        """List a call for a person."""
        self.listed.append(Finding(module.path, module.line(node), reason, step))


def find(
    modules: Sequence[Module], tasks: Tasks, *, to_event: bool, atomic_requests: bool
) -> Findings:
    """Return the calls of modules that send a task with a transaction.

    Args:
        modules: the modules.
        tasks: their tasks. The reasons why their base cannot be changed are added to them.
        to_event: the calls become events, so the base of no task changes.
        atomic_requests: functions of modules of views are in a transaction.
    """
    sendings = [(one, _around(one, atomic_requests)) for mod in modules for one in sendings_in(mod)]
    if not to_event:
        for one, around in sendings:
            if isinstance(one, Sending):
                _block(one, around, tasks)
        for module in modules:
            _block_chords(module, tasks)
    findings = Findings()
    for one, around in sendings:
        if isinstance(one, Opaque):
            findings.add(one.module, one.node, one.reason, _OPAQUE_STEP)
        elif _is_transactional(one, around):
            _judge(one, around, tasks, findings, to_event=to_event)
    for module in modules:
        _list_names(module, findings, atomic_requests=atomic_requests)
    findings.listed.sort()
    return findings


_OPAQUE_STEP = "Send each task by a statement of its own in the transaction, and run this again."


def _around(one: Sending | Opaque, atomic_requests: bool) -> Surroundings:
    return surroundings(one.module, one.node, atomic_requests=atomic_requests)


def _is_transactional(one: Sending, around: Surroundings) -> bool:
    return one.is_on_commit or around.is_atomic or one.method.endswith("_on_commit")


def _judge(
    one: Sending, around: Surroundings, tasks: Tasks, findings: Findings, *, to_event: bool
) -> None:
    """List a call that cannot be changed, or record its change."""
    task = tasks.find(one.module, one.receiver)
    if task is None:
        findings.add(one.module, one.node, *_unknown(one))
        return
    for reason, step in _obstacles(one, around, task, to_event=to_event):
        findings.add(one.module, one.node, reason, step)
        return
    findings.changes.append(Change(one, task, around.is_atomic))


def _unknown(one: Sending) -> tuple[str, str]:
    text = one.module.code(one.receiver)
    if m.findall(one.receiver, m.Call()) or isinstance(one.receiver, cst.BinaryOperation):
        return (
            "it sends a signature or a canvas",
            "Give the first task of a chain, or each task of a group, the base OutboxTask by hand.",
        )
    return (
        f"these paths declare no task {text}",
        f"Add the folder that declares {text} to the command. If it is chosen at run time: "
        f"{_BY_HAND[0].lower()}{_BY_HAND[1:]}",
    )


def _obstacles(
    one: Sending, around: Surroundings, task: Task, *, to_event: bool
) -> Iterator[tuple[str, str]]:
    module = one.module
    if around.is_async:
        yield (
            "it is in an async function, which cannot store the call",
            "Move the transaction and the call to a function that sync_to_async calls.",
        )
    databases = {*around.databases, database_of(module, one.node) if one.is_on_commit else ""}
    if other := sorted(databases - {""}):
        yield (
            f"its transaction is on the database {other[0]}",
            "Check that the outbox's tables are in that database, and change the call by hand.",
        )
    if one.is_on_commit and around.statement is None:
        yield "the call of on_commit is part of an expression", _OPAQUE_STEP
    if problem := lateness.problem_of(one):
        step = "Assign the value to a variable of its own before the call, and run this again."
        yield problem, step
    if _uses_result(one, around):
        yield (
            "its result is used, which exists only after the commit",
            "Use only the id of the result in the transaction.",
        )
    for reason in () if to_event else dict.fromkeys(task.reasons):
        yield f"the task {task.name} cannot be changed: {reason}", _BY_HAND


def _uses_result(one: Sending, around: Surroundings) -> bool:
    if one.is_on_commit or around.statement is not None:
        return False
    parent = one.module.parent(one.node)
    if isinstance(parent, cst.Attribute):
        return parent.attr.value not in _OF_RESULT
    if isinstance(parent, cst.Assign) and isinstance(around.function, cst.FunctionDef):
        return any(_reads_result(one.module, around.function, t.target) for t in parent.targets)
    return not isinstance(parent, cst.Expr)


def _reads_result(module: Module, function: cst.FunctionDef, target: cst.CSTNode) -> bool:
    """Return whether a function reads more than the id of a result that it assigns."""
    if not isinstance(target, cst.Name):
        return True
    for use in m.findall(function, m.Name(target.value)):
        parent = module.parent(use)
        if isinstance(parent, cst.AssignTarget):
            continue
        if not isinstance(parent, cst.Attribute) or parent.attr.value not in _OF_RESULT:
            return True
    return False


def _block(one: Sending, around: Surroundings, tasks: Tasks) -> None:
    """Record why the base of a task cannot be changed, from one of its calls."""
    task = tasks.find(one.module, one.receiver)
    if task is None or task.is_stored:
        return
    place = f"{one.module.path}:{one.module.line(one.node)}"
    if one.method.startswith("apply_async"):
        given = {arg.keyword.value: arg.value for arg in one.args if arg.keyword is not None}
        refused = sorted(_REFUSED & set(given))
        if "serializer" in given and one.module.code(given["serializer"]).strip("'\"") != "json":
            refused.append("serializer")
        if refused:
            task.reasons.append(f"{place} passes {refused[0]}=, which OutboxTask refuses")
    if around.is_async and not one.is_on_commit:
        task.reasons.append(f"{place} calls it in an async function, which cannot store the call")
    if around.is_atomic and _uses_result(one, around):
        task.reasons.append(f"{place} uses its result in the transaction")


def _block_chords(module: Module, tasks: Tasks) -> None:
    for call in calls_in(module):
        if isinstance(call.func, cst.Attribute) and call.func.attr.value in SIGNATURES:
            task = tasks.find(module, call.func.value)
            if task is not None and not task.is_stored and _is_in_chord(module, call):
                place = f"{module.path}:{module.line(call)}"
                task.reasons.append(f"{place} has it in a chord, which OutboxTask refuses")


def _is_in_chord(module: Module, node: cst.CSTNode) -> bool:
    """Return whether a chord counts it: in its header, or in a group within a chain."""
    kinds: list[str] = []
    for child, parent in module.ancestors(node):
        if isinstance(parent, cst.BinaryOperation) and isinstance(parent.operator, cst.BitOr):
            kinds.append("chain")
        elif isinstance(parent, cst.Call):
            kind = _CANVAS.get(module.full_name(parent.func), "")
            if kind != "chord" or child is parent.args[0]:  # the second one is its body
                kinds.append(kind)
        elif isinstance(parent, cst.BaseStatement):
            break
    return "chord" in kinds or ("group" in kinds and "chain" in kinds[kinds.index("group") :])


def _list_names(module: Module, findings: Findings, *, atomic_requests: bool) -> None:
    """List the calls of `send_task` in a transaction or a callback of one."""
    for call in calls_in(module):
        if not isinstance(call.func, cst.Attribute) or call.func.attr.value != "send_task":
            continue
        callbacks = (
            parent
            for _child, parent in module.ancestors(call)
            if isinstance(parent, cst.Call)
            and module.full_name(parent.func) == "django.db.transaction.on_commit"
        )
        around = surroundings(module, call, atomic_requests=atomic_requests)
        if around.is_atomic or next(callbacks, None) is not None:
            findings.add(module, call, "it sends a task by its name", f"Import it. {_BY_HAND}")
