"""What an app's API refuses: one class for each reason, with a code that stays."""

from __future__ import annotations

from rest_framework.exceptions import APIException

#: Errors of one answer; a body with more wrong parts gets the first ones.
MOST_ERRORS = 50
#: Characters of one error's text, which may quote a value of the body.
LONGEST_DETAIL = 300


class Conflict(APIException):
    """The request is a good one, but not as things are now: 409.

    Each reason is a subclass with a `default_code`, which never changes, and a `default_detail`,
    which says so to a person::

        class OrderNotShippable(Conflict):
            default_code = "order_not_shippable"
            default_detail = _("Only an order that is ready to ship can be shipped.")
    """

    status_code = 409
