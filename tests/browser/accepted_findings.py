"""Findings of axe in the markup of other projects: the rule, the place, and the reason."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from playwright.sync_api import Page


@dataclass(frozen=True)
class AcceptedFinding:
    """A finding in the markup of another project. The same rule elsewhere is an error.

    Attributes:
        rule: axe's name of the rule.
        within: selector of the part of the page that their templates write.
        reason: why it is so, and why we leave it.
    """

    rule: str
    within: str
    reason: str


def accepted_in(
    page: Page, rule: str, target: str, known: Sequence[AcceptedFinding]
) -> AcceptedFinding | None:
    """Return which of these a finding is, if any."""
    return next(
        (one for one in known if one.rule == rule and _is_within(page, target, one.within)), None
    )


def _is_within(page: Page, target: str, within: str) -> bool:
    return bool(
        page.evaluate(
            """([target, within]) => {
                const element = document.querySelector(target);
                return element !== null
                    && (element.closest(within) || element.querySelector(within)) !== null;
            }""",
            [target, within],
        )
    )
