"""Keyboard navigation of a page."""

from __future__ import annotations

from playwright.sync_api import Locator, Page

MOST_STEPS = 250


_LOOK = """(element) => {
    const style = getComputedStyle(element);
    return {
        isInPage: element.isConnected,
        hasFocus: element === document.activeElement,
        isMarked: element.matches(":focus-visible")
            && style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2,
    };
}"""


def tab_to(page: Page, wanted: Locator) -> None:
    """Press Tab until the element has the focus; fail if it never does, or if nobody would see."""
    wanted.wait_for()
    for _step in range(MOST_STEPS):
        page.keyboard.press("Tab")
        look = wanted.evaluate(_LOOK)
        while not look["isInPage"]:  # a refresh has replaced it since it was found
            look = wanted.evaluate(_LOOK)
        if look["hasFocus"]:
            assert look["isMarked"], f"nobody sees that {wanted} has the focus"
            return
    raise AssertionError(f"{MOST_STEPS} times Tab did not lead to {wanted}")


def press(page: Page, wanted: Locator) -> None:
    """Go to a button or a link by Tab, and press Enter."""
    tab_to(page, wanted)
    page.keyboard.press("Enter")
