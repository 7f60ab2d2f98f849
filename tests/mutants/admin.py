"""Safety parts of the admin: permissions of staff, and refused input."""

from __future__ import annotations

from tests.mutants.mutant import POSTGRESQL, Edit, Mutant

STRICT = "outbox/admin/strict_lookups.py"
LISTS = "tests/shop/test_admin_lookups.py::TestAList::"
PAGES = "tests/outbox/admin/test_strict_lookups.py::"
SITE = "tests/shop/test_admin_site.py::"
TEXT = "tests/shop/test_storable_text.py::"
FAILURES = "tests/shop/test_every_address.py::TestAFailure::"
SEARCH = "tests/outbox/admin/test_search.py::TestAUser::"
HIDDEN = f"{FAILURES}test_is_not_shown_without_the_permission"

LOOKUPS = [
    Mutant(
        name="lookups-of-a-list",
        without="a list of the admin is filtered by any column that its address names",
        edits=(Edit(STRICT, "            if lookup not in allowed:", "            if False:"),),
        noticed_by=(
            f"{LISTS}test_answers_another_lookup_with_a_refusal",
            f"{LISTS}test_refuses_lookups_without_a_filter",
        ),
    ),
    Mutant(
        name="lookups-of-third-party-lists",
        without="the admins of other apps are registered as they are",
        edits=(Edit("shop/admin_site.py", "_strict(admin_class or ModelAdmin)", "admin_class"),),
        noticed_by=(
            f"{LISTS}test_answers_another_lookup_with_a_refusal",
            f"{SITE}TestTheSite::test_makes_each_admin_strict",
        ),
    ),
    Mutant(
        name="order-of-a-list",
        without="a list is ordered by a column that it does not offer",
        edits=(
            Edit(
                STRICT,
                "is_offered = field_name in (self.sortable_by or ())",
                "is_offered = True",
            ),
        ),
        noticed_by=(f"{LISTS}test_is_not_ordered_by_a_column_that_it_does_not_offer",),
    ),
    Mutant(
        name="length-of-a-search",
        without="a list is searched by a text of any length",
        edits=(Edit(STRICT, "if len(search_term) > LONGEST_SEARCH:", "if False:"),),
        noticed_by=(f"{LISTS}test_refuses_a_search_text_that_cannot_be_stored",),
    ),
    Mutant(
        name="permission-of-an-action",
        without="an action that declares no permission is for everybody who sees the list",
        edits=(
            Edit(
                STRICT,
                "        if self.has_change_permission(request):\n            return found",
                "        if True:\n            return found",
            ),
        ),
        noticed_by=(f"{LISTS}test_offers_no_action_with_the_view_permission_only",),
    ),
]
INPUT = [
    Mutant(
        name="value-of-a-filter",
        without="a filter's value that no column holds ends in a server error",
        edits=(
            Edit(
                STRICT,
                "except (OverflowError, DataError) as error:  #",
                "except ZeroDivisionError as error:  #",
            ),
        ),
        noticed_by=(
            f"{LISTS}test_refuses_values_that_no_column_can_hold",
            f"{PAGES}TestAFilter::test_refuses_nul",
        ),
        database=POSTGRESQL,
    ),
    Mutant(
        name="year-of-a-list",
        without="a hierarchy of dates goes on to the year 10000",
        edits=(
            Edit(
                STRICT,
                "except ValueError as error:  #",
                "except ZeroDivisionError as error:  #",
            ),
        ),
        noticed_by=(f"{LISTS}test_refuses_values_that_no_column_can_hold",),
    ),
    Mutant(
        name="keys-of-chosen-rows",
        without="an action asks the database for rows by any text",
        edits=(
            Edit(
                STRICT,
                "if not self.are_keys(request.POST.getlist(ACTION_CHECKBOX_NAME)):",
                "if False:",
            ),
        ),
        noticed_by=(f"{PAGES}TestAnAction::test_with_an_invalid_key_changes_nothing",),
    ),
    Mutant(
        name="value-that-no-column-holds",
        without="a form whose value the database refuses ends in a server error",
        edits=(
            Edit(
                STRICT,
                "        except (OverflowError, DataError) as error:\n            text",
                "        except ZeroDivisionError as error:\n            text",
            ),
        ),
        noticed_by=(f"{PAGES}TestAForm::test_with_a_value_that_cannot_be_stored_is_refused",),
    ),
    Mutant(
        name="nul-in-a-cause",
        without="dead deliveries are chosen by a text with a NUL character",
        edits=(
            Edit(
                "outbox/admin/dead_letters.py",
                "    if not cause.is_valid():",
                "    if not cause.is_valid() and False:",
            ),
        ),
        noticed_by=(f"{PAGES}TestAnAction::test_on_dead_letters_refuses_nul",),
    ),
    Mutant(
        name="depth-of-a-correction",
        without="a corrected payload may be of any depth",
        edits=(
            Edit(
                "outbox/admin/json_object.py",
                "            if depth > DEEPEST:",
                "            if False:",
            ),
        ),
        noticed_by=(
            f"{PAGES}TestACorrection::test_names_the_error_in_a_payload_and_stores_nothing",
        ),
    ),
    Mutant(
        name="text-of-a-correction",
        without="a corrected payload may have text that the database refuses",
        edits=(
            Edit(
                "outbox/admin/json_object.py",
                "            if _UNSTORABLE.search(text):",
                "            if False:",
            ),
        ),
        noticed_by=(
            f"{PAGES}TestACorrection::test_names_the_error_in_a_payload_and_stores_nothing",
        ),
    ),
    Mutant(
        name="text-of-a-request",
        without="the site takes text that no database stores",
        edits=(
            Edit("shop/settings/apps.py", '    "shop.middleware.StorableTextMiddleware",\n', ""),
        ),
        noticed_by=(f"{TEXT}TestAQuery::test_is_refused", f"{TEXT}TestACookie::test_is_refused"),
    ),
    Mutant(
        name="length-of-a-login",
        without="a name of any length is tried at the login",
        edits=(
            Edit(
                "shared/sign_in.py",
                "        name.validators.append(MaxLengthValidator(name.max_length))\n",
                "",
            ),
        ),
        noticed_by=(f"{SITE}TestTheLogin::test_refuses_names_that_are_too_long",),
    ),
]
SEEN = [
    Mutant(
        name="failures-of-an-event",
        without="who may view an event reads what its handlers raised",
        edits=(
            Edit("outbox/admin/events.py", 'if context["may_see_failures"] else', "if True else"),
        ),
        noticed_by=(HIDDEN,),
    ),
    Mutant(
        name="failures-of-a-timeline",
        without="who may view a timeline reads what handlers raised",
        edits=(
            Edit(
                "outbox/admin/timeline.py",
                'find_timeline(sought, explained=may(request, "see failures"))',
                "find_timeline(sought, explained=True)",
            ),
        ),
        noticed_by=(f"{FAILURES}test_is_not_shown_by_the_timeline_of_a_key",),
    ),
    Mutant(
        name="failures-on-a-row",
        without="who may view a row reads what handlers of its events raised",
        edits=(
            Edit(
                "outbox/admin/timeline.py",
                'self.timeline_key(obj), explained=may(request, "see failures")',
                "self.timeline_key(obj), explained=True",
            ),
        ),
        noticed_by=(HIDDEN,),
    ),
    Mutant(
        name="rows-of-a-search",
        without="the search finds rows that the user may not view",
        edits=(
            Edit(
                "outbox/admin/search.py",
                "if own is not None and own.has_view_permission(request, row):",
                "if own is not None:",
            ),
        ),
        noticed_by=(f"{SEARCH}test_finds_only_what_the_user_may_view",),
    ),
    Mutant(
        name="deliveries-of-a-search",
        without="the search finds deliveries that the user may not view",
        edits=(
            Edit(
                "outbox/admin/search.py",
                'if may(request, "see failures"):',
                "if True:",
            ),
        ),
        noticed_by=(f"{SEARCH}test_finds_only_what_the_user_may_view",),
    ),
    Mutant(
        name="host-of-a-return",
        without="an action leads to another host",
        edits=(
            Edit(
                "outbox/admin/base.py",
                "if is_done and url_has_allowed_host_and_scheme(back, allowed_hosts=None):",
                "if is_done and back:",
            ),
        ),
        noticed_by=(
            "tests/outbox/admin/test_conditions.py::TestTheSentenceOfARow"
            "::test_returns_to_no_other_host",
        ),
    ),
    Mutant(
        name="failures-of-the-overview",
        without="who may view the overview reads what handlers raised",
        edits=(
            Edit(
                "outbox/admin/overview.py",
                '        clock.now(),\n        has_failures=may(request, "see failures"),\n',
                "        clock.now(),\n        has_failures=True,\n",
            ),
        ),
        noticed_by=(HIDDEN,),
    ),
    Mutant(
        name="reason-of-a-breaker",
        without="who may view handlers reads what the other side did",
        edits=(Edit("outbox/admin/handlers.py", "status(has_failures=has_failures)", "status()"),),
        noticed_by=(HIDDEN,),
    ),
    Mutant(
        name="reason-of-a-breaker-in-the-list",
        without="who may view subscriptions reads what the other side did",
        edits=(
            Edit(
                "outbox/admin/subscriptions.py",
                "stop_of(row, backfill, has_failures=row.has_failures)",
                "stop_of(row, backfill)",
            ),
        ),
        noticed_by=(HIDDEN,),
    ),
    Mutant(
        name="reason-of-an-operation",
        without="who may view deliveries reads the reasons of operations",
        edits=(
            Edit(
                "outbox/admin/dead_letters.py",
                'done=_latest_actions() if request.user.has_perm("outbox.view_operation") else (),',
                "done=_latest_actions(),",
            ),
        ),
        noticed_by=(f"{FAILURES}test_is_shown_by_an_operation_with_its_view_permission",),
    ),
]
ADMIN = [*LOOKUPS, *INPUT, *SEEN]
