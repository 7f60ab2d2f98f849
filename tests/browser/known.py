"""What axe finds in the markup of others: rule, where, and why it is not ours to mend."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from playwright.sync_api import Page


@dataclass(frozen=True)
class Known:
    """A finding that is somebody else's. The same rule elsewhere is ours.

    Attributes:
        rule: axe's name of the rule.
        within: selector of the part of the page that their templates write.
        reason: why it is so, and why we leave it.
    """

    rule: str
    within: str
    reason: str


def known_of(page: Page, rule: str, target: str, known: Sequence[Known]) -> Known | None:
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
