"""The text of a module with some calls, decorators and imports replaced."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import libcst as cst
import libcst.matchers as m
from libcst.codemod import CodemodContext
from libcst.codemod.visitors import RemoveImportsVisitor

from .imports import with_import
from .modules import Module

#: Imports that the calls needed before. Those without a use are removed.
_NEEDED_BEFORE = (
    ("django.db", "transaction"),
    ("django.db.transaction", "on_commit"),
    ("functools", "partial"),
    ("functools", None),
)


@dataclass
class Rewriting:
    """The replacements in one module.

    Attributes:
        statements: new statements by the call that a statement of the text consists of.
        calls: new calls by the call in the text.
        decorators: new decorators by the one in the text.
        imports: (module, name) of the names that the new text needs.
        unused: (module, name) of imports to remove if nothing uses them.
    """

    module: Module
    statements: dict[cst.Call, str] = field(default_factory=dict)
    calls: dict[cst.Call, cst.Call] = field(default_factory=dict)
    decorators: dict[cst.Decorator, cst.Decorator] = field(default_factory=dict)
    imports: dict[tuple[str, str], None] = field(default_factory=dict)
    unused: dict[tuple[str, str | None], None] = field(default_factory=dict)

    def text(self) -> bytes:
        """Return the new text of the module, in its encoding.

        Raises:
            cst.ParserSyntaxError: the new text is no valid Python.
        """
        tree = self.module.tree.visit(_Replacer(self))
        if self.calls or self.statements:
            tree = without_unused(tree, self.module, [*_NEEDED_BEFORE, *self.unused])
        for owner, name in self.imports:
            tree = with_import(tree, owner, name)
        made = tree.bytes
        compile(made, str(self.module.path), "exec", dont_inherit=True)
        return made


class _Replacer(cst.CSTTransformer):
    """Replaces nodes by the maps of a `Rewriting`, and keeps comments that a call loses."""

    def __init__(self, rewriting: Rewriting) -> None:
        super().__init__()
        self._rewriting = rewriting

    def leave_Decorator(
        self, original_node: cst.Decorator, updated_node: cst.Decorator
    ) -> cst.Decorator:
        return self._rewriting.decorators.get(original_node, updated_node)

    def leave_Call(self, original_node: cst.Call, updated_node: cst.Call) -> cst.Call:
        made = self._rewriting.calls.get(original_node)
        return updated_node if made is None else made

    def leave_SimpleStatementLine(
        self, original_node: cst.SimpleStatementLine, updated_node: cst.SimpleStatementLine
    ) -> cst.BaseStatement | cst.FlattenSentinel[cst.BaseStatement]:
        made: cst.BaseStatement = updated_node
        text = next((self._text(one) for one in original_node.body if self._text(one)), "")
        if text:
            made = _parsed(text, self._rewriting.module.tree, updated_node)
        return _with_comments(made, _lost(original_node, made))

    def _text(self, statement: cst.BaseSmallStatement) -> str:
        if isinstance(statement, cst.Expr) and isinstance(statement.value, cst.Call):
            return self._rewriting.statements.get(statement.value, "")
        return ""


def _parsed(
    text: str, tree: cst.Module, like: cst.SimpleStatementLine
) -> cst.SimpleStatementLine | cst.BaseCompoundStatement:
    made = cst.parse_statement(text, config=tree.config_for_parsing)
    lines = {"leading_lines": like.leading_lines}
    if isinstance(made, cst.SimpleStatementLine):
        lines["trailing_whitespace"] = like.trailing_whitespace  # type: ignore[assignment]  # dict
    return made.with_changes(**lines)


def _comments(node: cst.CSTNode) -> list[str]:
    return [one.value for one in m.findall(node, m.Comment()) if isinstance(one, cst.Comment)]


def _lost(before: cst.CSTNode, after: cst.CSTNode) -> list[str]:
    left = Counter(_comments(before)) - Counter(_comments(after))
    return [text for text in dict.fromkeys(_comments(before)) if left[text]]


def _with_comments(node: cst.BaseStatement, comments: Sequence[str]) -> cst.BaseStatement:
    if not comments or not isinstance(node, cst.SimpleStatementLine | cst.With):
        return node
    lines = [cst.EmptyLine(comment=cst.Comment(text)) for text in comments]
    return node.with_changes(leading_lines=[*node.leading_lines, *lines])


class _Dedenter(cst.CSTTransformer):
    """Removes columns from the lines of an expression after the first."""

    def __init__(self, columns: int) -> None:
        super().__init__()
        self._columns = columns

    def leave_ParenthesizedWhitespace(
        self,
        original_node: cst.ParenthesizedWhitespace,
        updated_node: cst.ParenthesizedWhitespace,
    ) -> cst.ParenthesizedWhitespace:
        lines = [
            one.with_changes(whitespace=self._shortened(one.whitespace))
            for one in updated_node.empty_lines
        ]
        last = self._shortened(updated_node.last_line)
        return updated_node.with_changes(empty_lines=lines, last_line=last)

    def _shortened(self, space: cst.SimpleWhitespace) -> cst.SimpleWhitespace:
        most = min(self._columns, len(space.value) - len(space.value.lstrip(" \t")))
        return space.with_changes(value=space.value[most:])


def dedented(node: cst.Call, columns: int) -> cst.Call:
    """Return a call whose later lines begin so many columns earlier."""
    made = node.visit(_Dedenter(columns)) if columns > 0 else node
    assert isinstance(made, cst.Call)
    return made


def with_base(decorator: cst.Decorator, name: str) -> cst.Decorator:
    """Return the decorator of a task with `base=` as its first argument."""
    call = decorator.decorator
    base = cst.Arg(
        keyword=cst.Name("base"),
        value=cst.Name(name),
        equal=cst.AssignEqual(cst.SimpleWhitespace(""), cst.SimpleWhitespace("")),
    )
    if not isinstance(call, cst.Call):
        return decorator.with_changes(decorator=cst.Call(func=call, args=[base]))
    others = [one for one in call.args if one.keyword is None or one.keyword.value != "base"]
    if others:
        space = call.whitespace_before_args
        is_broken = isinstance(space, cst.ParenthesizedWhitespace)
        after = space if is_broken else cst.SimpleWhitespace(" ")
        base = base.with_changes(comma=cst.Comma(whitespace_after=after))
    return decorator.with_changes(decorator=call.with_changes(args=[base, *others]))


def without_unused(
    tree: cst.Module, module: Module, names: Iterable[tuple[str, str | None]]
) -> cst.Module:
    """Return the tree of a module without those of these imports that nothing uses."""
    package = module.name if module.is_package else module.name.rpartition(".")[0]
    context = CodemodContext(full_module_name=module.name, full_package_name=package)
    for owner, name in names:
        RemoveImportsVisitor.remove_unused_import(context, owner, name)
    made = RemoveImportsVisitor(context).transform_module(tree)
    return _without_first_lines(made) if not _is_blank(tree) else made


def _is_blank(tree: cst.Module) -> bool:
    first = tree.body[0] if tree.body else None
    lines = [*tree.header, *getattr(first, "leading_lines", ())]
    return bool(lines) and lines[0].comment is None


def _without_first_lines(tree: cst.Module) -> cst.Module:
    """Return the module without the empty lines before its first statement."""
    if tree.header or not tree.body:
        return tree
    first, *rest = tree.body
    lines = list(getattr(first, "leading_lines", ()))
    while lines and lines[0].comment is None:
        del lines[0]
    return tree.with_changes(body=[first.with_changes(leading_lines=lines), *rest])
