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
        edits=(
            Edit(
                "storefront/baskets.py",
                'return str(self._content["key"])',
                "return str(uuid4())",
            ),
        ),
        noticed_by=(
            "tests/storefront/test_checkout.py::TestAnOrder"
            "::test_is_placed_once_by_two_tabs_with_the_same_basket",
        ),
    ),
    Mutant(
        name="second-factor-after-a-customers-sign-in",
        without="staff who sign in to the storefront come back to its sign-in without end",
        edits=(
            Edit(
                "shop/second_factor/middleware.py",
                'if _is_sign_in(request) and request.method == "GET":',
                "if False:",
            ),
        ),
        noticed_by=(
            "tests/shop/test_second_factor.py::TestStaffWithoutOne"
            "::test_are_led_to_it_by_each_page_of_the_storefront_that_needs_a_sign_in",
        ),
    ),
    Mutant(
        name="reloads-that-prolong-no-session",
        without="a page that reloads itself keeps a session open without a person",
        edits=(
            Edit(
                "shop/sessions.py",
                "elif not is_polling and RELOADS not in request.GET:",
                "elif not is_polling:",
            ),
        ),
        noticed_by=(
            "tests/shop/test_sessions.py::TestASession"
            "::test_is_not_prolonged_by_a_page_that_reloads_itself",
        ),
    ),
    Mutant(
        name="no-password-links-for-staff",
        without="a thief of a mailbox of staff gets a new password for the admin",
        edits=(
            Edit("storefront/forms.py", "if not (user.is_staff or user.is_superuser))", "if True)"),
        ),
        noticed_by=(
            "tests/storefront/test_passwords.py::TestARequestForANewPassword"
            "::test_has_the_same_answer_and_the_same_work_without_an_account",
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
