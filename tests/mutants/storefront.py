"""Safety parts of the storefront and of the development drawer."""

from __future__ import annotations

from tests.mutants.mutant import Edit, Mutant

STOREFRONT = [
    Mutant(
        name="owner-of-an-orders-page",
        without="the storefront shows each order to everybody who is signed in",
        edits=(
            Edit(
                "storefront/order_views.py",
                "if not orders.orders_of(request.user).filter(pk=pk).exists():",
                "if False:",
            ),
        ),
        noticed_by=(
            "tests/storefront/test_orders.py::TestAnOrderOfSomebodyElse::test_does_not_exist",
        ),
    ),
    Mutant(
        name="key-of-a-basket",
        without="each form of the checkout has an idempotency key of its own",
        edits=(Edit("storefront/baskets.py", "if _KEY not in self._session:", "if True:"),),
        noticed_by=(
            "tests/storefront/test_checkout.py::TestAnOrder"
            "::test_is_placed_once_by_two_tabs_with_the_same_basket",
        ),
    ),
    Mutant(
        name="drawer-in-production",
        without="DEBUG alone installs the development drawer, also in production",
        edits=(
            Edit(
                "shop/settings/drawer.py", 'if DEBUG and not FOR_REAL else ""', 'if DEBUG else ""'
            ),
        ),
        noticed_by=("tests/shop/test_drawer.py::TestTheDrawer::test_is_absent_elsewhere",),
    ),
    Mutant(
        name="folder-of-the-drawer",
        without="other users of the machine may ask the supervisor to kill programs",
        edits=(Edit("shop/up/control.py", "or found.st_mode & 0o077:", "or False:"),),
        noticed_by=(
            "tests/shop/test_up_control.py::TestTheFolder::test_that_others_may_open_is_refused",
        ),
    ),
]
