"""Safety parts of the storefront and of the development drawer."""

from __future__ import annotations

from tests.mutants.mutant import POSTGRESQL, Edit, Mutant

BESIDE_ORDERS = (
    "tests/orders/test_migrations_beside_orders.py::TestAMigrationBesideOrders"
    "::test_blocks_none_of_them"
)

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
                "elif not _is_polling(request) and RELOADS not in request.GET:",
                "elif not _is_polling(request):",
            ),
        ),
        noticed_by=(
            "tests/shop/test_sessions.py::TestASession"
            "::test_is_not_prolonged_by_a_page_that_reloads_itself",
        ),
    ),
    Mutant(
        name="polls-that-delete-no-session-cookie",
        without="the answer to a poll that began before a sign-in signs the customer out",
        edits=(
            Edit(
                "shop/sessions.py",
                "if cookie is not None and not cookie.value and _is_polling(request):",
                "if False:",
            ),
        ),
        noticed_by=(
            "tests/shop/test_sessions.py::TestASession::test_survives_a_poll_that_began_before_it",
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
        name="password-links-of-new-staff",
        without="a user still gets a link after becoming staff",
        edits=(
            Edit(
                "storefront/password_email.py",
                "User.objects.filter(is_active=True, is_staff=False, is_superuser=False)",
                "User.objects.filter(is_active=True)",
            ),
        ),
        noticed_by=(
            "tests/storefront/test_passwords.py"
            "::TestARequestForANewPassword::test_sends_nothing_to_a_user_who_has_become_staff_meanwhile",
        ),
    ),
    Mutant(
        name="three-links-in-an-e-mail",
        without="an e-mail has a link for each account that strangers create with its address",
        edits=(
            Edit(
                "storefront/services.py",
                "MOST_LINKS = 3",
                "MOST_LINKS = 300",
            ),
        ),
        noticed_by=(
            "tests/storefront/test_passwords.py"
            "::TestARequestForANewPassword::test_sends_one_email_with_the_three_oldest_accounts_of_the_address",
        ),
    ),
    Mutant(
        name="port-of-a-link",
        without="the Host header of a request chooses the port of a link in an e-mail",
        edits=(
            Edit(
                "storefront/account_email.py",
                "name, _port = split_domain_port(request.get_host())",
                "name = request.get_host()",
            ),
        ),
        noticed_by=(
            "tests/storefront/test_passwords.py"
            "::TestARequestForANewPassword::test_without_that_setting_leads_to_the_name_of_the_request_at_no_port_of_it",
        ),
    ),
    Mutant(
        name="password-links-in-logs",
        without="the logs have links to a new password",
        edits=(
            Edit(
                "shop/logs.py",
                '_PASSWORD_LINK.sub(r"\\1***/***", text)',
                "text",
            ),
        ),
        noticed_by=("tests/shop/test_logs.py::TestASecretLink::test_is_masked[new-password]",),
    ),
    Mutant(
        name="verification-links-in-logs",
        without="the logs have links that verify somebody else's address",
        edits=(
            Edit(
                "shop/logs.py",
                'return _VERIFICATION_LINK.sub(r"\\1***", _PASSWORD_LINK.sub(r"\\1***/***", text))',
                'return _PASSWORD_LINK.sub(r"\\1***/***", text)',
            ),
        ),
        noticed_by=("tests/shop/test_logs.py::TestASecretLink::test_is_masked[verify]",),
    ),
    Mutant(
        name="links-in-traces",
        without="exported traces have links to a new password",
        edits=(
            Edit(
                "shop/telemetry.py",
                "BatchSpanProcessor(MaskingExporter(OTLPSpanExporter()))",
                "BatchSpanProcessor(OTLPSpanExporter())",
            ),
        ),
        noticed_by=(
            "tests/shop/test_telemetry.py::TestARequestWithASecretLink"
            "::test_is_exported_without_the_secret",
        ),
    ),
    Mutant(
        name="exceptions-in-traces",
        without="the exception of an exported trace quotes a link",
        edits=(
            Edit(
                "shop/telemetry.py",
                "Event(one.name, _masked(one.attributes), one.timestamp)",
                "Event(one.name, one.attributes, one.timestamp)",
            ),
        ),
        noticed_by=(
            "tests/shop/test_telemetry.py::TestAnExportedSpan"
            "::test_has_no_secret_in_its_name_attributes_exception_and_status",
        ),
    ),
    Mutant(
        name="verified-accounts-first",
        without="accounts of strangers take the places of links to a new password",
        edits=(
            Edit(
                "storefront/forms.py",
                "(one.pk not in verified, one.email != address, one.pk)",
                "(one.email != address, one.pk)",
            ),
        ),
        noticed_by=(
            "tests/storefront/test_verification.py"
            "::TestAnAddressThatIsNotVerified::test_gets_links_to_a_new_password_after_verified_ones",
        ),
    ),
    Mutant(
        name="request-of-the-chosen-spelling",
        without="a stranger's spelling of an address takes the place of its owner's request",
        edits=(
            Edit(
                "storefront/forms.py",
                "address=users[0].email if users else address.lower(),",
                "address=address.lower(),",
            ),
        ),
        noticed_by=(
            "tests/storefront/test_passwords.py::TestARequestForANewPassword"
            "::test_is_not_dropped_after_one_with_a_strangers_spelling[not verified]",
        ),
    ),
    Mutant(
        name="button-of-a-verification",
        without="a program that opens the links of an e-mail verifies its address",
        edits=(
            Edit(
                "storefront/address_views.py",
                'if user is None or request.method != "POST":',
                "if user is None:",
            ),
        ),
        noticed_by=(
            "tests/storefront/test_verification.py"
            "::TestALink::test_verifies_nothing_when_it_is_only_opened",
        ),
    ),
    Mutant(
        name="link-to-a-former-address",
        without="a link to a former address verifies the present one",
        edits=(
            Edit(
                "storefront/verification.py",
                "return user if user and digest_of(user) == digest else None",
                "return user",
            ),
        ),
        noticed_by=(
            "tests/storefront/test_verification.py"
            "::TestALink::test_is_not_valid_after_a_change_of_the_account[another address]",
        ),
    ),
    Mutant(
        name="verification-of-a-former-address",
        without="an address that staff have entered counts as verified",
        edits=(
            Edit(
                "storefront/verification.py",
                "for pk, digest in stored if digest == digests[pk]}",
                "for pk, digest in stored}",
            ),
        ),
        noticed_by=(
            "tests/storefront/test_verification.py"
            "::TestAChangeOfTheAddress::test_by_staff_has_to_be_verified_too",
        ),
    ),
    Mutant(
        name="latest-request-of-an-account",
        without="all requests of an account that wait send an e-mail to its last address",
        edits=(
            Edit(
                "storefront/verification.py",
                "User.objects.filter(~Exists(later), pk=user_id",
                "User.objects.filter(pk=user_id",
            ),
        ),
        noticed_by=(
            "tests/storefront/test_verification.py::TestRequestsThatAreNotAnsweredYet"
            "::test_of_several_addresses_send_one_email_to_the_last_one",
            "tests/storefront/test_verification.py::TestRequestsThatAreNotAnsweredYet"
            "::test_of_one_address_send_one_email",
        ),
    ),
    Mutant(
        name="password-for-another-address",
        without="a thief of a session changes the e-mail address of the account",
        edits=(
            Edit(
                "storefront/forms.py",
                "if not self.user.check_password(password):",
                "if False:",
            ),
        ),
        noticed_by=(
            "tests/storefront/test_verification.py"
            "::TestAChangeOfTheAddress::test_needs_the_present_password",
        ),
    ),
    Mutant(
        name="key-of-an-order",
        without="a basket from yesterday places its order again",
        edits=(
            Edit(
                "orders/services.py",
                "if key_digest and customer.orders.filter(placed_with=key_digest).exists():",
                "if False:",
            ),
        ),
        noticed_by=(
            "tests/orders/test_api_idempotency.py"
            "::TestARepetition::test_places_no_second_order_after_the_answer_is_deleted",
        ),
    ),
    Mutant(
        name="column-beside-orders",
        without="orders queue behind a migration that waits for the lock of their table",
        edits=(
            Edit(
                "shared/migrations_beside_writes.py",
                '        cursor.execute(f"SET LOCAL lock_timeout = {int(seconds * 1000)}")\n',
                "",
            ),
        ),
        noticed_by=(BESIDE_ORDERS,),
        database=POSTGRESQL,
    ),
    Mutant(
        name="unique-index-beside-orders",
        without="orders wait until a migration has built a unique index of their table",
        edits=(
            Edit(
                "shared/migrations_beside_writes.py",
                "CREATE UNIQUE INDEX CONCURRENTLY",
                "CREATE UNIQUE INDEX",
            ),
        ),
        noticed_by=(BESIDE_ORDERS,),
        database=POSTGRESQL,
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
