"""The calls that send tasks, and what surrounds them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import libcst as cst
import libcst.matchers as m

from .modules import Module

SENDERS = frozenset({"delay", "apply_async", "delay_on_commit", "apply_async_on_commit"})
#: Methods of a task that make a signature.
SIGNATURES = frozenset({"s", "si", "signature", "subtask"})

_ATOMIC = frozenset({"django.db.transaction.atomic"})
_ON_COMMIT = "django.db.transaction.on_commit"
_METHOD_DECORATOR = "django.utils.decorators.method_decorator"
_PARTIAL = "functools.partial"


@dataclass(frozen=True)
class Sending:
    """A call that sends a task, or a callback that will.

    Attributes:
        node: the call in the tree: of `on_commit`, or of the method of the task.
        receiver: the expression before `.delay`.
        method: "delay", "apply_async", ...
        args: arguments of the method.
        template: the call with these arguments in the text; None for `on_commit(task.delay)`.
        callback: the lambda of `on_commit`, whose arguments are evaluated late; None without one.
        is_on_commit: whether `node` is a call of `on_commit`.
    """

    module: Module
    node: cst.Call
    receiver: cst.BaseExpression
    method: str
    args: tuple[cst.Arg, ...]
    template: cst.Call | None = None
    callback: cst.Lambda | None = None
    is_on_commit: bool = False


@dataclass(frozen=True)
class Opaque:
    """A callback of `on_commit` that sends tasks in another way.

    Attributes:
        reason: why it cannot be changed.
    """

    module: Module
    node: cst.Call
    reason: str


def calls_in(module: Module) -> Iterator[cst.Call]:
    """Yield all calls of a module."""
    found = m.findall(module.tree, m.Call())
    yield from (node for node in found if isinstance(node, cst.Call))


def is_sender(node: cst.CSTNode) -> bool:
    """Return whether an expression is a method that sends a task."""
    return isinstance(node, cst.Attribute) and node.attr.value in SENDERS


def sendings_in(module: Module) -> Iterator[Sending | Opaque]:
    """Yield each call of a module that sends a task, in the order of the text."""
    covered: set[cst.Call] = set()
    for call in calls_in(module):
        if module.full_name(call.func) == _ON_COMMIT:
            covered.update(one for one in m.findall(call, m.Call()) if isinstance(one, cst.Call))
            found = _on_commit(module, call)
            if found is not None:
                yield found
        elif call not in covered and is_sender(call.func):
            yield _direct(module, call)


def _direct(module: Module, call: cst.Call) -> Sending:
    assert isinstance(call.func, cst.Attribute)
    method = call.func.attr.value
    return Sending(module, call, call.func.value, method, tuple(call.args), template=call)


def _on_commit(module: Module, call: cst.Call) -> Sending | Opaque | None:
    callback = _callback(call)
    if callback is None:
        return None
    if isinstance(callback, cst.Lambda):
        return _from_lambda(module, call, callback)
    if isinstance(callback, cst.Call) and module.full_name(callback.func) == _PARTIAL:
        return _from_partial(module, call, callback)
    if isinstance(callback, cst.Attribute) and is_sender(callback):
        name = callback.attr.value
        return Sending(module, call, callback.value, name, (), is_on_commit=True)
    if isinstance(callback, cst.Name) and _sends(_function(module, callback)):
        return Opaque(module, call, f"the callback {callback.value} is a function that sends tasks")
    return None


def _callback(call: cst.Call) -> cst.BaseExpression | None:
    for number, one in enumerate(call.args):
        is_first = number == 0 and one.keyword is None and not one.star
        if is_first or (one.keyword is not None and one.keyword.value == "func"):
            return one.value
    return None


def _from_lambda(module: Module, call: cst.Call, callback: cst.Lambda) -> Sending | Opaque | None:
    body = callback.body
    if isinstance(body, cst.Call) and isinstance(body.func, cst.Attribute) and is_sender(body.func):
        return Sending(
            module,
            call,
            body.func.value,
            body.func.attr.value,
            tuple(body.args),
            template=body,
            callback=callback,
            is_on_commit=True,
        )
    if _sends(body):
        return Opaque(module, call, "the lambda does more than send one task")
    return None


def _from_partial(module: Module, call: cst.Call, callback: cst.Call) -> Sending | Opaque | None:
    first = callback.args[0] if callback.args else None
    if first is None or first.star or not isinstance(first.value, cst.Attribute):
        return None
    if not is_sender(first.value):
        return None
    return Sending(
        module,
        call,
        first.value.value,
        first.value.attr.value,
        tuple(callback.args[1:]),
        template=callback,
        is_on_commit=True,
    )


def _function(module: Module, name: cst.Name) -> cst.CSTNode | None:
    nodes = [getattr(one, "node", None) for one in module.assignments(name)]
    return next((one for one in nodes if isinstance(one, cst.FunctionDef)), None)


def _sends(node: cst.CSTNode | None) -> bool:
    if node is None:
        return False
    return any(
        is_sender(one.func) for one in m.findall(node, m.Call()) if isinstance(one, cst.Call)
    )


@dataclass(frozen=True)
class Surroundings:
    """What surrounds a call.

    Attributes:
        statement: the simple statement that consists of the call alone; None if its value is used.
        function: the nearest function or lambda.
        is_async: whether that function is async.
        is_atomic: whether a transaction is open around it, as far as its function shows.
        databases: the values of `using` of these transactions, as text; "" for the default.
    """

    statement: cst.SimpleStatementLine | None
    function: cst.FunctionDef | cst.Lambda | None
    is_async: bool
    is_atomic: bool
    databases: tuple[str, ...]


def surroundings(module: Module, node: cst.Call, *, atomic_requests: bool) -> Surroundings:
    """Return what surrounds a call.

    Args:
        atomic_requests: functions of modules of views are in a transaction.
    """
    opened: list[str] = []
    function: cst.FunctionDef | cst.Lambda | None = None
    for child, parent in module.ancestors(node):
        if isinstance(parent, cst.With) and child is parent.body:
            opened += [
                using
                for one in parent.items
                if (using := _using_of_atomic(module, one.item)) is not None
            ]
        if isinstance(parent, cst.Lambda):
            function = parent
            break
        if isinstance(parent, cst.FunctionDef) and child is parent.body:
            function = parent
            opened += _of_function(module, parent, atomic_requests=atomic_requests)
            break
    return Surroundings(
        statement=_statement(module, node),
        function=function,
        is_async=isinstance(function, cst.FunctionDef) and function.asynchronous is not None,
        is_atomic=bool(opened),
        databases=tuple(opened),
    )


def _statement(module: Module, node: cst.Call) -> cst.SimpleStatementLine | None:
    expression = module.parent(node)
    line = module.parent(expression) if isinstance(expression, cst.Expr) else None
    return line if isinstance(line, cst.SimpleStatementLine) else None


def _of_function(
    module: Module, function: cst.FunctionDef, *, atomic_requests: bool
) -> Iterator[str]:
    decorators = list(function.decorators)
    if (owner := _class_of(module, function)) is not None:
        decorators += [one for one in owner.decorators if _is_of_methods(module, one)]
    for one in decorators:
        using = _using_of_atomic(module, one.decorator)
        if using is not None:
            yield using
    if atomic_requests and "views" in module.name.split("."):
        yield ""


def _class_of(module: Module, function: cst.FunctionDef) -> cst.ClassDef | None:
    for _child, parent in module.ancestors(function):
        if isinstance(parent, cst.ClassDef):
            return parent
        if isinstance(parent, cst.FunctionDef | cst.Lambda):
            return None
    return None


def _is_of_methods(module: Module, decorator: cst.Decorator) -> bool:
    call = decorator.decorator
    return isinstance(call, cst.Call) and module.full_name(call.func) == _METHOD_DECORATOR


def _using_of_atomic(module: Module, node: cst.BaseExpression) -> str | None:
    """Return the text of `using` if this is `transaction.atomic`; "" for the default."""
    if module.full_name(node) in _ATOMIC:
        return ""
    if not isinstance(node, cst.Call):
        return None
    if module.full_name(node.func) == _METHOD_DECORATOR and node.args:
        return _using_of_atomic(module, node.args[0].value)
    if module.full_name(node.func) not in _ATOMIC:
        return None
    return database_of(module, node)


def database_of(module: Module, call: cst.Call) -> str:
    """Return the text of the argument `using` of `atomic` or `on_commit`; "" for the default."""
    position = 0 if module.full_name(call.func) in _ATOMIC else 1
    for number, one in enumerate(call.args):
        is_given = number == position and one.keyword is None
        if one.star:
            return f"{one.star}{module.code(one.value)}"
        if is_given or (one.keyword is not None and one.keyword.value == "using"):
            text = module.code(one.value)
            return "" if text in ("None", '"default"', "'default'", "DEFAULT_DB_ALIAS") else text
    return ""
