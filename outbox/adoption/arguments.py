"""The arguments of a call as the text shows them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import libcst as cst
import libcst.matchers as m


class NotPossible(Exception):
    """A call or its task does not fit an event. The text is the reason."""


def has_long_text(node: cst.BaseExpression) -> bool:
    """Return whether an expression has a text of several lines, which an indent would change."""
    texts = m.findall(node, m.SimpleString() | m.FormattedStringText())
    return any("\n" in one.value for one in texts if hasattr(one, "value"))


def refuse_stars(args: Sequence[cst.Arg]) -> None:
    """Raise `NotPossible` if a call unpacks its arguments."""
    if any(one.star for one in args):
        raise NotPossible("the call unpacks its arguments")


def of_apply_async(
    args: Sequence[cst.Arg], *, code: object
) -> tuple[list[cst.BaseExpression], dict[str, cst.BaseExpression], str]:
    """Return the positional and the named arguments of the task, and the delay, or "".

    Raises:
        NotPossible: the text does not show them, or there are other options.
    """
    refuse_stars(args)
    positions = iter(("args", "kwargs", "task_id"))
    given = {
        one.keyword.value if one.keyword is not None else next(positions, "producer"): one.value
        for one in args
    }
    ordered, named = given.pop("args", None), given.pop("kwargs", None)
    countdown = given.pop("countdown", None)
    if given:
        raise NotPossible(f"the call has the option {min(given)}, which belongs to the handler")
    assert callable(code)
    delay = "" if countdown is None else str(code(countdown))
    return list(_elements(ordered)), dict(_pairs(named)), delay


def _elements(node: cst.BaseExpression | None) -> Iterator[cst.BaseExpression]:
    if node is None:
        return
    if not isinstance(node, cst.List | cst.Tuple):
        raise NotPossible("args= is no list in the text")
    for one in node.elements:
        if isinstance(one, cst.StarredElement):
            raise NotPossible("the call unpacks its arguments")
        yield one.value


def _pairs(node: cst.BaseExpression | None) -> Iterator[tuple[str, cst.BaseExpression]]:
    if node is None:
        return
    if not isinstance(node, cst.Dict):
        raise NotPossible("kwargs= is no dict in the text")
    for one in node.elements:
        is_pair = isinstance(one, cst.DictElement) and isinstance(one.key, cst.SimpleString)
        if not is_pair:
            raise NotPossible("kwargs= is no dict with literal names")
        assert isinstance(one, cst.DictElement)
        assert isinstance(one.key, cst.SimpleString)
        yield str(one.key.evaluated_value), one.value
