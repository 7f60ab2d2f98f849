"""What axe finds in Django's own admin, which is not ours to mend: rule, where, and why.

Each is a part of Django's stock templates (5.2) that we use as it is. A finding elsewhere, even by
the same rule, is ours.
"""

from __future__ import annotations

from dataclasses import dataclass

from playwright.sync_api import Page


@dataclass(frozen=True)
class Known:
    """A finding that is Django's.

    Attributes:
        rule: axe's name of the rule.
        within: selector of the part of the page that Django's templates write.
        reason: why it is so, and why we leave it.
    """

    rule: str
    within: str
    reason: str


KNOWN = (
    Known(
        "page-has-heading-one",
        "body.login",
        "admin/login.html has no heading: the site's name is a block of the header.",
    ),
    Known(
        "link-in-text-block",
        "body.dashboard .breadcrumbs",
        "Nothing but links stands there, told apart by their place; elsewhere we underline them.",
    ),
    Known(
        "empty-table-header",
        ".inline-group.tabular thead, .inline-group .tabular thead",
        "The columns of a tabular inline's original and of its delete box have no title.",
    ),
    Known(
        "scrollable-region-focusable",
        ".inline-group",
        "A tabular inline scrolls on a narrow screen, and no attribute of it can be set.",
    ),
)


def is_djangos(page: Page, rule: str, target: str) -> bool:
    """Return whether a finding is one of those."""
    return any(known.rule == rule and _is_within(page, target, known.within) for known in KNOWN)


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
