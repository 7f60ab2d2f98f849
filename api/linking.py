"""OpenAPI links: the requests that may follow an answer, and the values they take from it.

    @extend_schema(
        operation_id="place_order",
        extensions=links(link("get_order", id=ITS_ID), link("cancel_order", id=ITS_ID)),
    )

A program that reads the schema, schemathesis for example, follows them.
"""

from __future__ import annotations

from typing import Any

#: Key of an operation's links until `move_links` puts them into its answer.
_EXTENSION = "x-links"

#: Sources of a parameter: the answer, the first row of a list, the previous request.
ITS_ID = "$response.body#/id"
FIRST_ID = "$response.body#/results/0/id"
SAME_ID = "$request.path.id"


def link(operation_id: str, *, body: Any = None, **parameters: str) -> dict[str, Any]:
    """Return a link to an operation.

    Args:
        operation_id: the operation that may follow.
        body: its body, where texts may be runtime expressions of OpenAPI.
        parameters: its parameters, each a runtime expression such as `ITS_ID`.
    """
    content: dict[str, Any] = {"operationId": operation_id}
    if parameters:
        content["parameters"] = parameters
    if body is not None:
        # Otherwise schemathesis adds invented items to each list in it.
        content |= {"requestBody": body, "x-schemathesis": {"merge_body": False}}
    return content


def links(*each: dict[str, Any]) -> dict[str, Any]:
    """Return the `extensions` by which `extend_schema` gives an operation these links."""
    return {_EXTENSION: {one["operationId"]: one for one in each}}


def move_links(operation: dict[str, Any]) -> None:
    """Move an operation's links to its successful answers, where OpenAPI requires them."""
    for_success = operation.pop(_EXTENSION, None)
    for status, response in operation["responses"].items():
        if for_success and status.startswith("2"):
            response["links"] = for_success
