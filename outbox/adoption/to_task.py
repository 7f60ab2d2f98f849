"""The change to a transactional task: a base for the task, and a plain call in the transaction."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import libcst as cst

from .calls import Sending
from .findings import Change
from .lateness import substituted
from .modules import Module
from .rewriting import Rewriting, dedented, with_base
from .tasks import BASE

_OWNER, _DOT, _NAME = BASE.rpartition(".")


def rewrite(changes: Iterable[Change], rewritings: dict[Path, Rewriting]) -> None:
    """Add the replacements of these changes to the rewritings, by the paths of modules."""
    for one in changes:
        module, task = one.sending.module, one.task
        made = plain_call(one.sending)
        if made is not one.sending.node:
            rewritings[module.path].calls[one.sending.node] = made
        if not task.is_stored:
            mine = rewritings[task.module.path]
            mine.decorators[task.decorator] = with_base(task.decorator, _NAME)
            mine.imports[_OWNER, _NAME] = None


def plain_call(sending: Sending) -> cst.Call:
    """Return `task.delay(...)` or `task.apply_async(...)`, with the formatting of the text."""
    method = sending.method.removesuffix("_on_commit")
    if method == sending.method and not sending.is_on_commit:
        return sending.node
    function = cst.Attribute(value=sending.receiver, attr=cst.Name(method))
    template = sending.template
    if template is None:
        return cst.Call(func=function)
    args = substituted(sending.args, sending.callback)
    changes = {"func": function, "args": args}
    if (
        template.args
        and isinstance(template.whitespace_before_args, cst.SimpleWhitespace)
        and (len(template.args) != len(args))
    ):
        changes["whitespace_before_args"] = cst.SimpleWhitespace("")
    made = template.with_changes(**changes)
    return dedented(made, _columns(sending.module, template, sending.node))


def _columns(module: Module, inner: cst.Call, outer: cst.Call) -> int:
    """Return by how many columns the first line of the inner call is deeper than the outer's."""
    if inner is outer or module.line(inner) == module.line(outer):
        return 0
    return _indentation(module, inner) - _indentation(module, outer)


def _indentation(module: Module, node: cst.CSTNode) -> int:
    line = module.lines[module.line(node) - 1]
    return len(line) - len(line.lstrip(" \t"))
