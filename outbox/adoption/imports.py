"""The imports of a module: one more name, in the order of the imports that it has."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import libcst as cst
import libcst.matchers as m

from .modules import dotted


def with_import(tree: cst.Module, owner: str, name: str) -> cst.Module:
    """Return the module with `from owner import name` at its top level."""
    if _imports(tree, owner, name):
        return tree
    body: list[Any] = list(tree.body)
    for number, statement in enumerate(body):
        if _module_of(statement) == owner and _names_of(statement):
            body[number] = _with_name(statement, name)
            return tree.with_changes(body=body)
    line = cst.parse_statement(f"from {owner} import {name}", config=tree.config_for_parsing)
    _insert(body, line, owner)
    return tree.with_changes(body=body)


def _insert(body: list[Any], line: cst.CSTNode, owner: str) -> None:
    """Insert an import where its group is, sorted by module, or where its group belongs."""
    start, end = _block(body)
    mine = [n for n in range(start, end) if _group(_module_of(body[n])) == _group(owner)]
    if mine:
        before = [n for n in mine if str(_module_of(body[n])) < owner]
        position = before[-1] + 1 if before else mine[0]
        if not before:  # it takes the empty line before its group
            line = line.with_changes(leading_lines=body[position].leading_lines)
            body[position] = body[position].with_changes(leading_lines=[])
        body.insert(position, line)
        return
    earlier = [n for n in range(start, end) if _group(_module_of(body[n])) < _group(owner)]
    position = earlier[-1] + 1 if earlier else start
    if position > 0:
        line = line.with_changes(leading_lines=[_EMPTY])
    if position < len(body):
        is_import = _module_of(body[position]) is not None
        body[position] = _after_empty_lines(body[position], 1 if is_import else 2)
    body.insert(position, line)


_EMPTY = cst.EmptyLine(indent=False)


def _block(body: Sequence[cst.CSTNode]) -> tuple[int, int]:
    """Return the range of the imports at the top of a module."""
    start = 1 if body and _is_docstring(body[0]) else 0
    end = start
    while end < len(body) and _module_of(body[end]) is not None:
        end += 1
    return start, end


def _group(owner: str | None) -> int:
    """Return the rank of an import: __future__, standard library, others, relative."""
    if owner == "__future__":
        return 0
    if not owner:
        return 3
    return 1 if owner.partition(".")[0] in sys.stdlib_module_names else 2


def _after_empty_lines(statement: Any, number: int) -> Any:
    lines = [one for one in statement.leading_lines if one.comment is not None]
    empty = len(statement.leading_lines) - len(lines)
    if empty >= number:
        return statement
    return statement.with_changes(leading_lines=[*[_EMPTY] * number, *lines])


def _is_docstring(statement: cst.CSTNode) -> bool:
    return m.matches(statement, m.SimpleStatementLine(body=[m.Expr(m.SimpleString())]))


def _module_of(statement: cst.CSTNode) -> str | None:
    """Return the module that a statement imports; "" for a relative one; None: no import."""
    if not isinstance(statement, cst.SimpleStatementLine):
        return None
    node = statement.body[0]
    if isinstance(node, cst.ImportFrom):
        return "" if node.relative or node.module is None else dotted(node.module)
    if isinstance(node, cst.Import):
        return dotted(node.names[0].name)
    return None


def _names_of(statement: cst.CSTNode) -> Sequence[cst.ImportAlias]:
    node = statement.body[0] if isinstance(statement, cst.SimpleStatementLine) else None
    is_list = isinstance(node, cst.ImportFrom) and not isinstance(node.names, cst.ImportStar)
    return list(node.names) if is_list else ()  # type: ignore[union-attr]  # checked


def _imports(tree: cst.Module, owner: str, name: str) -> bool:
    return any(
        _module_of(one) == owner and alias.evaluated_name == name and alias.asname is None
        for one in tree.body
        for alias in _names_of(one)
    )


def _with_name(statement: cst.CSTNode, name: str) -> cst.CSTNode:
    """Return a `from` import with one more name, in the order of the names."""
    aliases = sorted([*(one.evaluated_name for one in _names_of(statement)), name])
    number = aliases.index(name)
    kept = list(_names_of(statement))
    new = cst.ImportAlias(name=cst.Name(name))
    if number < len(kept):
        comma = kept[number].comma
        if not isinstance(comma, cst.Comma):
            comma = cst.Comma(whitespace_after=cst.SimpleWhitespace(" "))
        new = new.with_changes(comma=comma)
    else:
        last = kept[-1]
        if isinstance(last.comma, cst.Comma):
            new = new.with_changes(comma=last.comma)
        space: cst.BaseParenthesizableWhitespace = cst.SimpleWhitespace(" ")
        if len(kept) > 1 and isinstance(kept[-2].comma, cst.Comma):
            space = kept[-2].comma.whitespace_after
        kept[-1] = last.with_changes(comma=cst.Comma(whitespace_after=space))
    kept.insert(number, new)
    assert isinstance(statement, cst.SimpleStatementLine)
    node = statement.body[0].with_changes(names=kept)
    return statement.with_changes(body=[node, *statement.body[1:]])
