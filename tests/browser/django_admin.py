"""Accepted findings of axe in the templates of Django's own admin (5.2)."""

from __future__ import annotations

from tests.browser.accepted_findings import AcceptedFinding

KNOWN = (
    AcceptedFinding(
        "page-has-heading-one",
        "body.login",
        "admin/login.html has no heading: the site's name is a block of the header.",
    ),
    AcceptedFinding(
        "link-in-text-block",
        "body.dashboard .breadcrumbs",
        "These places contain only links. Links elsewhere are underlined.",
    ),
    AcceptedFinding(
        "empty-table-header",
        ".inline-group.tabular thead, .inline-group .tabular thead",
        "The columns of a tabular inline's original and of its delete box have no title.",
    ),
    AcceptedFinding(
        "scrollable-region-focusable",
        ".inline-group",
        "A tabular inline scrolls on a narrow screen, and no attribute of it can be set.",
    ),
)
