"""Refusals of an app's API: one class for each reason, with a stable code."""

from __future__ import annotations

from rest_framework.exceptions import APIException

#: Maximum errors in one answer; further ones are left out.
MOST_ERRORS = 50
#: Maximum characters of one error's text, which may quote a value of the body.
LONGEST_DETAIL = 300


class Conflict(APIException):
    """The request is valid, but conflicts with the current state: 409.

    Each reason is a subclass with a `default_code`, which never changes, and a `default_detail`,
    which explains it to a person::

        class OrderNotShippable(Conflict):
            default_code = "order_not_shippable"
            default_detail = _("Only an order that is ready to ship can be shipped.")
    """

    status_code = 409
