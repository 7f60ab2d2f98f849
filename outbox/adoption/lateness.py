"""Whether the arguments of a callback have the same values before the commit as after it.

`on_commit(lambda: send.delay(order.pk))` evaluates `order.pk` after the commit. A call in its place
evaluates it at once. The difference matters if a variable is assigned again, or its object changes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import libcst as cst
import libcst.matchers as m

from .calls import Sending
from .modules import Module

#: Functions without effects, whose result depends on their arguments only.
_PURE = frozenset({"str", "int", "float", "bool", "list", "tuple", "dict", "len", "sorted", "repr"})
_LOGGERS = frozenset({"logger", "log", "logging"})


def problem_of(sending: Sending) -> str:
    """Return why the arguments of a lambda must not be evaluated at once, or ""."""
    callback = sending.callback
    if callback is None:
        return ""
    if _without_default(callback):
        return "the lambda has a parameter without a value"
    for arg in sending.args:
        for call in m.findall(arg, m.Call()):
            if isinstance(call, cst.Call) and not _is_pure(call):
                return (
                    f"the lambda calls {sending.module.code(call.func)}(), which may return "
                    "another value before the commit"
                )
    return next(_problems(sending), "")


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
    return isinstance(call.func, cst.Name) and call.func.value in _PURE


def _problems(sending: Sending) -> Iterator[str]:
    module, callback = sending.module, sending.callback
    assert callback is not None
    bound = parameters_of(callback)
    for arg in sending.args:
        for name in _names(arg):
            if name.value in bound or not _is_local(module, name):
                continue
            reads_attribute = isinstance(module.parent(name), cst.Attribute | cst.Subscript)
            text = _change(sending, name, reads_attribute=reads_attribute)
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


def _change(sending: Sending, name: cst.Name, *, reads_attribute: bool) -> str:
    """Return how the variable or its object changes between the call and the commit, or ""."""
    module = sending.module
    function = _outermost(module, sending.node)
    if function is None:
        return ""
    first = module.end_line(sending.node)
    loop = _loop(module, sending.node)
    inside = {id(one) for one in m.findall(sending.node, m.Name())}
    for use in m.findall(function, m.Name(name.value)):
        if not isinstance(use, cst.Name) or id(use) in inside:
            continue
        is_later = module.line(use) > first or (loop is not None and _contains(module, loop, use))
        if not is_later:
            continue
        place = f"before the commit (line {module.line(use)})"
        if _is_target(module, use):
            return f"the variable {name.value} is assigned again {place}"
        if _changes(module, use, reads_attribute=reads_attribute):
            return f"the variable {name.value} may change {place}"
    return ""


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


def _is_target(module: Module, use: cst.Name) -> bool:
    """Return whether a statement assigns this name."""
    for child, parent in module.ancestors(use):
        if isinstance(parent, cst.Tuple | cst.List | cst.Element | cst.StarredElement):
            continue
        if isinstance(parent, cst.AssignTarget | cst.AugAssign | cst.AnnAssign | cst.CompFor):
            return child is parent.target
        if isinstance(parent, cst.For | cst.NamedExpr):
            return child is parent.target
        return isinstance(parent, cst.AsName | cst.Del)
    return False


def _changes(module: Module, use: cst.Name, *, reads_attribute: bool) -> bool:
    """Return whether this use of a variable may change its object."""
    parent = module.parent(use)
    if isinstance(parent, cst.Attribute | cst.Subscript) and parent.value is use:
        outer = module.parent(parent)
        if isinstance(outer, cst.Call) and outer.func is parent:
            return True  # a method
        return isinstance(outer, cst.AssignTarget | cst.AugAssign | cst.Del) or (
            isinstance(outer, cst.AnnAssign) and outer.target is parent
        )
    if reads_attribute and isinstance(parent, cst.Arg) and parent.value is use:
        return not _is_harmless(module, parent)
    return False


def _is_harmless(module: Module, arg: cst.Arg) -> bool:
    """Return whether the function that gets the object does not change it."""
    call = module.parent(arg)
    if not isinstance(call, cst.Call):
        return False
    if isinstance(call.func, cst.Attribute) and isinstance(call.func.value, cst.Name):
        return call.func.value.value in _LOGGERS
    return _is_pure(call)


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
        return self._values.get(original_node.value, updated_node)
