"""The parts of a document that is being made: each added once, and referred to by name."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from outbox.contracts.schema_parts import Schema

from .examples import NoExample, example_of
from .schemas import Components
from .systems import UNNAMED, Address, System

Reference = dict[str, str]

_VARIABLE = re.compile(r"\{(\w+)\}")
#: Descriptions of the variables in the hosts of servers.
VARIABLES = {
    "host": "Host and port. The settings of this code do not name them.",
    "key": "The event's key: id of the aggregate that it is about.",
    "region": "Region of Amazon Web Services. The settings of this code do not name it.",
}
NO_EXAMPLE = (
    "No example fits this schema. Give one in the event's class: Field(examples=[...]), for the "
    "field with the unusual pattern, format or limits."
)
_NOT_IN_ID = re.compile(r"[^A-Za-z0-9._-]+")


class Builder:
    """Collects servers, channels, operations, messages and schemas."""

    def __init__(self) -> None:
        self.servers: dict[str, Any] = {}
        self.channels: dict[str, Any] = {}
        self.operations: dict[str, Any] = {}
        self.messages: dict[str, Any] = {}
        self.components = Components()

    def servers_of(self, name: str, system: System) -> list[Reference]:
        """Add the servers of a sink or source, unless they are there, and return references.

        Without a known address one server with a variable stands for the system.
        """
        found = system.servers or [Address(host=UNNAMED)]
        return [self._server(name, one, system.protocol) for one in found]

    def _server(self, name: str, address: Address, protocol: str) -> Reference:
        path = {"pathname": address.pathname} if address.pathname else {}
        names = _VARIABLE.findall(address.host)
        variables = {"variables": {one: _variable(one) for one in names}}
        server = {
            "host": address.host,
            **path,
            "protocol": protocol,
            **(variables if names else {}),
        }
        same = (key for key, one in self.servers.items() if one == server)
        key = next((key for key in same if key.startswith(name)), "")
        if not key:
            key = self._free(name, self.servers)
            self.servers[key] = server
        return {"$ref": f"#/servers/{key}"}

    def schema(self, name: str, schema: Schema) -> Reference:
        """Add a schema, unless it is there, and return a reference to it."""
        if name not in self.components.schemas:
            self.components.add(name, schema)
        return {"$ref": f"#/components/schemas/{name}"}

    def message(
        self,
        name: str,
        message: Mapping[str, Any],
        example: Mapping[str, Any] | None,
        *,
        no_example: str = NO_EXAMPLE,
    ) -> Reference:
        """Add a message, unless it is there, with an example of its headers and payload.

        Without an example, `no_example` is the reason.
        """
        if name not in self.messages:
            shown = {"examples": [example]} if example else {"x-no-example": no_example}
            self.messages[name] = {**message, **shown}
        return {"$ref": f"#/components/messages/{name}"}

    def example(self, schema: Schema) -> Any:
        """Return an example of a schema of this document, or None if none was found."""
        try:
            return example_of(schema, self.find)
        except NoExample:
            return None

    def channel(
        self, name: str, channel: Mapping[str, Any], messages: Mapping[str, Reference]
    ) -> str:
        """Add a channel with its messages by their key, and return its id."""
        key = self._free(name, self.channels)
        self.channels[key] = {**channel, "messages": dict(messages)}
        return key

    def operation(
        self,
        name: str,
        action: Literal["send", "receive"],
        *,
        channel: str,
        messages: Sequence[str],
        **more: Any,
    ) -> None:
        """Add an operation on a channel, for these of its messages."""
        pointer = f"#/channels/{channel}"
        self.operations[self._free(name, self.operations)] = {
            "action": action,
            "channel": {"$ref": pointer},
            "messages": [{"$ref": f"{pointer}/messages/{one}"} for one in messages],
            **more,
        }

    def find(self, pointer: str) -> Any:
        """Return the schema that a reference names."""
        return self.components.schemas[pointer.rpartition("/")[2]]

    def _free(self, name: str, taken: Mapping[str, Any]) -> str:
        """Return the name in the characters of a component's key, with a number if it is taken."""
        key = _NOT_IN_ID.sub("-", name)
        number = 2
        while key in taken:
            key = f"{_NOT_IN_ID.sub('-', name)}-{number}"
            number += 1
        return key


def _variable(name: str) -> dict[str, str]:
    """Return its description. The project may write braces into a host, too."""
    return {"description": VARIABLES[name]} if name in VARIABLES else {}
