"""Additions to drf-spectacular's schema: our tokens, and the answers of our conventions."""

from __future__ import annotations

from typing import Any

from drf_spectacular.extensions import (
    OpenApiAuthenticationExtension,
    OpenApiSerializerExtension,
)
from rest_framework.serializers import ListSerializer

from .conditional import IF_NONE_MATCH
from .idempotency import HEADER, REPLAYED
from .linking import move_links
from .problems import LONGEST_DETAIL, MOST_ERRORS
from .serializers import ONE_LINE, StrictCharField

PROBLEM_JSON = "application/problem+json"

PROBLEM: dict[str, Any] = {
    "type": "object",
    "description": "An error in the format of RFC 9457.",
    "properties": {
        "type": {"type": "string", "format": "uri-reference"},
        "title": {"type": "string", "description": "The title of the error code."},
        "status": {"type": "integer"},
        "detail": {
            "type": "string",
            "maxLength": LONGEST_DETAIL,
            "description": "The explanation of this error.",
        },
        "code": {
            "type": "string",
            "description": "The stable error code. Programs should check this field.",
        },
        "errors": {
            "type": "array",
            "description": "The invalid parts of the body; only the first ones if there are many.",
            "maxItems": MOST_ERRORS,
            "items": {
                "type": "object",
                "properties": {
                    "pointer": {
                        "type": "string",
                        "description": "A JSON pointer, such as #/lines/0/quantity.",
                    },
                    "code": {"type": "string"},
                    "detail": {"type": "string", "maxLength": LONGEST_DETAIL},
                },
                "required": ["pointer", "code", "detail"],
                "additionalProperties": False,
            },
        },
        "correlation_id": {
            "type": "string",
            "format": "uuid",
            "description": "Identifies this request in our logs and events.",
        },
    },
    "required": ["type", "title", "status", "detail", "code", "errors", "correlation_id"],
    "additionalProperties": False,
}

FOR_ALL = {
    "400": ("The URL, a header or a cookie contains a NUL character, or the host name is unknown."),
    "401": "The token is missing or invalid.",
    "406": "`Accept` does not allow JSON.",
    "429": "Too many requests. `Retry-After` is the number of seconds to wait.",
}
FOR_BODIES = {
    "400": "The body or a header is invalid.",
    "403": ("The permission is missing, or a request with a session has no CSRF token."),
    "411": "The request has no `Content-Length`.",
    "413": "The body is too large.",
    "415": "The body is not `application/json`.",
}
FOR_CURSORS = {"404": "The cursor is invalid."}
FOR_KEYS = {
    "409": (
        "A request with this `Idempotency-Key` was processed before, and its "
        "answer is no longer stored."
    ),
    "422": "The `Idempotency-Key` was used before with another body.",
}
FOR_ETAGS = {"304": "The `ETag` is still that of `If-None-Match`."}

REPLAYED_HEADER = {
    "schema": {"type": "string", "enum": ["true"]},
    "description": "Present if this is the stored answer of an earlier request.",
}
ETAG_HEADER = {"schema": {"type": "string"}}


class TokenScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]  # spectacular's registry
    """`Authorization: Bearer ...`."""

    target_class = "api.tokens.TokenAuthentication"
    name = "token"

    def get_security_definition(self, auto_schema: Any) -> dict[str, Any]:
        """Describe the scheme."""
        return {
            "type": "http",
            "scheme": "bearer",
            "description": (
                "The token alone, without the word Bearer. Requests send it as `Authorization: "
                "Bearer ...`; `Authorization: Token ...` is accepted, too."
            ),
        }


class StrictSerializerSchema(OpenApiSerializerExtension):  # type: ignore[no-untyped-call]  # spectacular's registry
    """A StrictSerializer accepts only its own fields, lists of a limited length, and one-line
    texts."""

    target_class = "api.serializers.StrictSerializer"
    match_subclasses = True

    def map_serializer(self, auto_schema: Any, direction: str) -> dict[str, Any]:
        """Describe these limits."""
        mapped = auto_schema._map_serializer(self.target, direction, bypass_extensions=True)
        for name, part in self.target.fields.items():
            if name in mapped["properties"]:
                mapped["properties"][name] = _limits(part) | mapped["properties"][name]
        return {**mapped, "additionalProperties": False}


def _limits(part: Any) -> dict[str, Any]:
    """Return the limits of our fields that spectacular does not know."""
    if isinstance(part, StrictCharField):
        return {"pattern": ONE_LINE}
    if isinstance(part, ListSerializer):
        lengths: Any = part  # the stubs do not know it
        limits = {"minItems": lengths.min_length, "maxItems": lengths.max_length}
        return {name: limit for name, limit in limits.items() if limit is not None}
    return {}


def add_problems(
    result: dict[str, Any], generator: Any, request: Any, public: bool
) -> dict[str, Any]:
    """Add to each operation the errors of any request, and to each error its form."""
    result["components"]["schemas"]["Problem"] = PROBLEM
    for path in result["paths"].values():
        for method, operation in path.items():
            _complete(operation, method)
    return result


def _complete(operation: dict[str, Any], method: str) -> None:
    move_links(operation)
    _show_example(operation)
    responses = operation["responses"]
    for status, description in _expected(operation, method).items():
        responses.setdefault(status, {"description": description})
    for status, response in responses.items():
        if status >= "400":
            response["content"] = {
                PROBLEM_JSON: {"schema": {"$ref": "#/components/schemas/Problem"}}
            }
    responses["429"]["headers"] = {"Retry-After": {"schema": {"type": "integer"}}}
    _add_headers(operation)
    operation["responses"] = dict(sorted(responses.items()))


def _show_example(operation: dict[str, Any]) -> None:
    """Move a body's only example to `example`: Swagger UI lists `examples` without a label."""
    for content in operation.get("requestBody", {}).get("content", {}).values():
        if len(content.get("examples", ())) == 1:
            ((_name, example),) = content.pop("examples").items()
            content["example"] = example["value"]


def _expected(operation: dict[str, Any], method: str) -> dict[str, str]:
    return {
        **FOR_ALL,
        **(FOR_BODIES if method != "get" else {}),
        **(FOR_CURSORS if _takes(operation, "cursor") else {}),
        **(FOR_KEYS if _takes(operation, HEADER) else {}),
        **(FOR_ETAGS if _takes(operation, IF_NONE_MATCH.name) else {}),
    }


def _add_headers(operation: dict[str, Any]) -> None:
    """Add to each success the headers that belong to a header of the request."""
    for request_header, name, header in (
        (HEADER, REPLAYED, REPLAYED_HEADER),
        (IF_NONE_MATCH.name, "ETag", ETAG_HEADER),
    ):
        if _takes(operation, request_header):
            for status, response in operation["responses"].items():
                if status.startswith("2"):
                    response.setdefault("headers", {})[name] = header


def _takes(operation: dict[str, Any], parameter: str) -> bool:
    return any(one["name"] == parameter for one in operation.get("parameters", ()))
