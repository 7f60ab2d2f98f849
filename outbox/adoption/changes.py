"""Whether later code may change a value that a callback reads: its variable, or its object.

A chain is the text of what an expression reads: ("order", ".pk") for `order.pk`. Code that changes
`order` or `order.pk` matters to it, and code that changes `order.customer` does not.
"""

from __future__ import annotations

import libcst as cst

from .modules import Module

#: Functions without effects, whose result depends on their arguments only.
PURE = frozenset({"str", "int", "float", "bool", "repr"})
#: Functions that do not change their arguments, but may read a collection or a query.
_READERS = PURE | {"list", "tuple", "dict", "len", "sorted"}
_LOGGERS = frozenset({"logger", "log", "logging"})

Chain = tuple[str, ...]


def chain_of(module: Module, name: cst.Name) -> Chain:
    """Return the chain that an expression reads from a variable.

    The last part of `str(order)` and f"{order}" is "*": they may read any attribute.
    """
    chain, top = _climbed(module, name)
    for child, parent in module.ancestors(top):
        if isinstance(parent, cst.FormattedStringExpression):
            return (*chain, "*")
        if isinstance(parent, cst.Call) and child is not parent.func:
            is_pure = isinstance(parent.func, cst.Name) and parent.func.value in PURE
            return (*chain, "*") if is_pure else chain
    return chain


def _climbed(module: Module, name: cst.Name) -> tuple[Chain, cst.CSTNode]:
    """Return the chain that starts with a name, and the expression that it is."""
    chain: Chain = (name.value,)
    top: cst.CSTNode = name
    for child, parent in module.ancestors(name):
        if isinstance(parent, cst.Attribute) and parent.value is child:
            chain, top = (*chain, f".{parent.attr.value}"), parent
        elif isinstance(parent, cst.Subscript) and parent.value is child:
            chain, top = (*chain, module.code(parent)[len(module.code(child)) :]), parent
        else:
            break
    return chain, top


def is_target(module: Module, use: cst.Name) -> bool:
    """Return whether a statement assigns this name."""
    for child, parent in module.ancestors(use):
        if isinstance(parent, cst.Tuple | cst.List | cst.Element | cst.StarredElement):
            continue
        if isinstance(parent, cst.AssignTarget | cst.AugAssign | cst.AnnAssign | cst.CompFor):
            return child is parent.target
        if isinstance(parent, cst.For | cst.NamedExpr):
            return child is parent.target
        kinds = cst.AsName | cst.Del | cst.MatchAs | cst.MatchStar | cst.MatchMapping
        return isinstance(parent, kinds)
    return False


def may_change(module: Module, use: cst.Name, read: Chain) -> bool:
    """Return whether this use of a variable may change what a chain reads."""
    chain, top = _climbed(module, use)
    outer = module.parent(top)
    if isinstance(outer, cst.Call) and outer.func is top:
        return len(chain) > 1 and _are_related(chain[:-1], read)  # a method
    if isinstance(outer, cst.AssignTarget | cst.AugAssign | cst.Del | cst.AnnAssign):
        is_assigned = not isinstance(outer, cst.AnnAssign | cst.AugAssign) or outer.target is top
        if is_assigned:
            return len(chain) > 1
    if len(chain) >= len(read) or read[: len(chain)] != chain:
        return False
    return _passes_on(module, top, outer)


def _are_related(one: Chain, other: Chain) -> bool:
    length = min(len(one), len(other))
    return one[:length] == other[:length]


def _passes_on(module: Module, node: cst.CSTNode, outer: cst.CSTNode | None) -> bool:
    """Return whether other code gets the object: by an argument, a collection or another name."""
    if isinstance(outer, cst.Arg):
        return not _is_harmless(module, outer)
    if isinstance(outer, cst.Element | cst.StarredElement | cst.DictElement | cst.WithItem):
        return True
    if isinstance(outer, cst.For | cst.CompFor):
        return outer.iter is node
    kinds = cst.Assign | cst.AnnAssign | cst.NamedExpr | cst.Yield | cst.Param
    return isinstance(outer, kinds)


def _is_harmless(module: Module, arg: cst.Arg) -> bool:
    """Return whether the function that gets the object does not change it."""
    call = module.parent(arg)
    if not isinstance(call, cst.Call):
        return False
    if isinstance(call.func, cst.Attribute) and isinstance(call.func.value, cst.Name):
        return call.func.value.value in _LOGGERS
    return isinstance(call.func, cst.Name) and call.func.value in _READERS
