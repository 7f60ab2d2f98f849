"""Checks of a page's layout in a browser: nothing is cut off, hidden by overflow, or overlapped."""

from __future__ import annotations

from pathlib import Path

from playwright.sync_api import Page

_SCRIPT = (Path(__file__).parent / "layout_checks.js").read_text()

#: May be wider than their visible part at every width: the map, and code.
WIDE_BY_NATURE = ".outbox-map, pre"
#: May be so on a phone: sequence diagrams, and lists and tables of Django's admin.
WIDE_ON_A_PHONE = ".outbox-drawing, .results, .inline-group, .inline-related"
#: Pixels below which a window is one of a phone.
_PHONE_BELOW = 768


def cut_off(page: Page, width: int) -> list[str]:
    """Name the texts and controls that cannot be seen in a window of this width.

    A text or control has to lie within the window. In a scroll container it has to lie within the
    part that shows without scrolling sideways, except in `WIDE_BY_NATURE` and `WIDE_ON_A_PHONE`,
    where it has to lie within what scrolling reaches. No box hides a part of it (hidden overflow,
    an ellipsis without a title), and no other text or control overlaps it.
    """
    size = page.viewport_size
    assert size is not None
    if size["width"] != width:
        page.set_viewport_size({"width": width, "height": size["height"]})
    wide = [WIDE_BY_NATURE, *([WIDE_ON_A_PHONE] if width < _PHONE_BELOW else [])]
    return list(page.evaluate(_SCRIPT, ", ".join(wide)))
