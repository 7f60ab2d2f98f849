"""Whether the arguments of a callback have the same values before the commit as after it.

`on_commit(lambda: send.delay(order.pk))` evaluates `order.pk` after the commit. A call in its place
evaluates it at once. The difference matters if a variable is assigned again, or its object changes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain

import libcst as cst
import libcst.matchers as m

from .calls import Sending
from .changes import PURE, Chain, chain_of, is_target, may_change
from .modules import Module

_VALUE_STEP = "which may return another value before the commit"


def problem_of(sending: Sending) -> str:
    """Return why the arguments of a callback must not be evaluated at once, or ""."""
    callback = sending.callback
    if callback is None:
        return next(_kept_objects(sending, sending.args), "")
    if _without_default(callback):
        return "the lambda has a parameter without a value"
    problems = chain(
        _calls(sending),
        _repeated(sending, callback),
        _problems(sending),
        _kept_objects(sending, list(parameters_of(callback).values())),
    )
    return next(problems, "")


def _calls(sending: Sending) -> Iterator[str]:
    """Yield the parts of the arguments that may have another value, or an effect."""
    for arg in sending.args:
        for call in m.findall(arg, m.Call()):
            if isinstance(call, cst.Call) and not _is_pure(call):
                yield f"the lambda calls {sending.module.code(call.func)}(), {_VALUE_STEP}"
        if m.findall(arg, m.CompFor()):
            yield f"the lambda reads a collection, {_VALUE_STEP}"
        if m.findall(arg, m.NamedExpr()):
            yield "the lambda assigns a variable"


def _repeated(sending: Sending, callback: cst.Lambda) -> Iterator[str]:
    """Yield the parameters whose values must be evaluated once, and would not be."""
    for name, value in parameters_of(callback).items():
        uses = [use for arg in sending.args for use in _names(arg) if use.value == name]
        if m.findall(value, m.Call() | m.NamedExpr()) and len(uses) != 1:
            yield f"the lambda uses its parameter {name} {len(uses)} times"


def _kept_objects(sending: Sending, values: Sequence[cst.CSTNode]) -> Iterator[str]:
    """Yield the variables that are evaluated at once, but whose object may change later."""
    module = sending.module
    for value in values:
        for name in _names(value):
            read = chain_of(module, name)
            if len(read) == 1 and _is_local(module, name):
                text = _change(sending, name, read, is_bound=True)
                if text:
                    yield text


def parameters_of(callback: cst.Lambda) -> dict[str, cst.BaseExpression]:
    """Return the values of a lambda's parameters, which are evaluated at once, by name."""
    params = callback.params
    given = [*params.posonly_params, *params.params, *params.kwonly_params]
    return {one.name.value: one.default for one in given if one.default is not None}


def _without_default(callback: cst.Lambda) -> bool:
    params = callback.params
    given = [*params.posonly_params, *params.params, *params.kwonly_params]
    has_star = isinstance(params.star_arg, cst.Param) or params.star_kwarg is not None
    return has_star or any(one.default is None for one in given)


def _is_pure(call: cst.Call) -> bool:
    return isinstance(call.func, cst.Name) and call.func.value in PURE


def _problems(sending: Sending) -> Iterator[str]:
    module, callback = sending.module, sending.callback
    assert callback is not None
    bound = parameters_of(callback)
    for arg in sending.args:
        for name in _names(arg):
            if name.value not in bound and _is_local(module, name):
                text = _change(sending, name, chain_of(module, name))
                if text:
                    yield text


def _names(node: cst.CSTNode) -> Iterator[cst.Name]:
    """Yield the variables of an expression, without attributes and keywords."""
    if isinstance(node, cst.Name):
        yield node
    elif isinstance(node, cst.Attribute | cst.Arg):
        yield from _names(node.value)
    else:
        for child in node.children:
            yield from _names(child)


def _is_local(module: Module, name: cst.Name) -> bool:
    """Return whether a function assigns the name. Modules and classes are not assigned again."""
    assigned = [getattr(one, "node", None) for one in module.assignments(name)]
    return any(node is not None and _owner(module, node) is not None for node in assigned)


def _owner(module: Module, node: cst.CSTNode) -> cst.FunctionDef | None:
    for _child, parent in module.ancestors(node):
        if isinstance(parent, cst.FunctionDef):
            return parent
    return None


def _outermost(module: Module, node: cst.CSTNode) -> cst.FunctionDef | None:
    """Return the outermost function around a node: an inner one uses the variables of the outer."""
    found = None
    for _child, parent in module.ancestors(node):
        if isinstance(parent, cst.FunctionDef):
            found = parent
    return found


def _change(sending: Sending, name: cst.Name, read: Chain, *, is_bound: bool = False) -> str:
    """Return how the variable or its object changes between the call and the commit, or "".

    Args:
        is_bound: the variable is evaluated at once, so only its object matters.
    """
    module = sending.module
    function = _outermost(module, sending.node)
    if function is None:
        return ""
    for use in _later_uses(sending, function, name.value):
        place = f"before the commit (line {module.line(use)})"
        if is_target(module, use) and not is_bound:
            return f"the variable {name.value} is assigned again {place}"
        if may_change(module, use, read):
            return f"the variable {name.value} may change {place}"
    return _hidden_change(sending, name.value) if len(read) > 1 else ""


def _hidden_change(sending: Sending, name: str) -> str:
    """Return how an object changes without its name, or "": by super(), or after a signal."""
    module = sending.module
    for _child, parent in module.ancestors(sending.node):
        if not isinstance(parent, cst.FunctionDef):
            continue
        if any("pre_save" in module.code(one.decorator) for one in parent.decorators):
            return f"the object {name} is saved after the signal pre_save"
        first = parent.params.params[0].name.value if parent.params.params else ""
        supers = m.findall(parent, m.Call(func=m.Name("super")))
        later = [one for one in supers if module.is_after(one, sending.node)]
        if name == first and later:
            line = module.line(later[0])
            return f"the variable {name} may change before the commit (line {line})"
    return ""


def _later_uses(sending: Sending, function: cst.FunctionDef, name: str) -> Iterator[cst.Name]:
    """Yield the uses of a variable that may run between the call and the commit."""
    module = sending.module
    loop = _loop(module, sending.node)
    around = {id(parent) for _child, parent in module.ancestors(sending.node)}
    inside = {id(one) for one in m.findall(sending.node, m.Name())}
    for use in m.findall(function, m.Name(name)):
        if not isinstance(use, cst.Name) or id(use) in inside:
            continue
        owner = _owner(module, use)
        is_later = module.is_after(use, sending.node) or id(owner) not in around
        if is_later or (loop is not None and _contains(module, loop, use)):
            yield use


def _loop(module: Module, node: cst.CSTNode) -> cst.CSTNode | None:
    """Return the outermost loop around a node within its function."""
    found = None
    for _child, parent in module.ancestors(node):
        if isinstance(parent, cst.FunctionDef):
            return found
        if isinstance(parent, cst.For | cst.While):
            found = parent
    return found


def _contains(module: Module, outer: cst.CSTNode, inner: cst.CSTNode) -> bool:
    return any(parent is outer for _child, parent in module.ancestors(inner))


def substituted(args: Sequence[cst.Arg], callback: cst.Lambda | None) -> tuple[cst.Arg, ...]:
    """Return the arguments with the parameters of a lambda replaced by their values."""
    values = parameters_of(callback) if callback is not None else {}
    if not values:
        return tuple(args)
    replacer = _Replacer(values)
    changed = (one.visit(replacer) for one in args)
    return tuple(one for one in changed if isinstance(one, cst.Arg))


class _Replacer(cst.CSTTransformer):
    def __init__(self, values: dict[str, cst.BaseExpression]) -> None:
        super().__init__()
        self._values = values

    def leave_Attribute(
        self, original_node: cst.Attribute, updated_node: cst.Attribute
    ) -> cst.Attribute:
        return updated_node.with_changes(attr=original_node.attr)

    def leave_Arg(self, original_node: cst.Arg, updated_node: cst.Arg) -> cst.Arg:
        return updated_node.with_changes(keyword=original_node.keyword)

    def leave_Name(self, original_node: cst.Name, updated_node: cst.Name) -> cst.BaseExpression:
        value = self._values.get(original_node.value)
        return updated_node if value is None else _closed(value)


#: Expressions that need no parentheses within another one.
_CLOSED = cst.Name | cst.Attribute | cst.Call | cst.Subscript | cst.SimpleString


def _closed(value: cst.BaseExpression) -> cst.BaseExpression:
    if isinstance(value, _CLOSED) or value.lpar:
        return value
    return value.with_changes(lpar=[cst.LeftParen()], rpar=[cst.RightParen()])
