"""Read an AsyncAPI document of any system, version 3 or 2, into a contract to compare.

References within the document are followed. References to other files or addresses are not read.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from outbox.contracts.schema_parts import Schema

from .bundling import BadReference, bundled, follow

Action = Literal["send", "receive"]

#: An AsyncAPI 2 document says what others do to the application: "publish" is its receiving.
_ACTIONS_OF_2: tuple[tuple[str, Action], ...] = (("publish", "receive"), ("subscribe", "send"))
_JSON_SCHEMAS = (
    "application/vnd.aai.asyncapi",
    "application/schema+json",
    "application/schema+yaml",
)


class Unreadable(ValueError):
    """A file is no AsyncAPI document that can be read."""


@dataclass(frozen=True, kw_only=True)
class Message:
    """A message of a channel. `payload` and `headers` contain their definitions as `$defs`.

    Attributes:
        key: its key among the channel's messages.
        name: its machine-friendly name, or "".
        content_type: the media type of its payload, or "".
        payload: JSON Schema (2020-12) of its payload; None: it is in another schema language.
        headers: JSON Schema of its headers.
    """

    key: str
    name: str = ""
    content_type: str = ""
    payload: Schema | bool | None = field(default=True, repr=False)
    headers: Schema | bool = field(default=True, repr=False)


@dataclass(frozen=True, kw_only=True)
class Channel:
    """A channel. `operations` has the actions that the application does on each message's key."""

    id: str
    address: str
    messages: Mapping[str, Message]
    operations: Mapping[str, tuple[Action, str]]
    is_internal: bool
    bindings: Any

    @property
    def actions(self) -> set[tuple[Action, str]]:
        """Each action with the key of its message."""
        return set(self.operations.values())


@dataclass(frozen=True, kw_only=True)
class Contract:
    """The channels of a document by their id, and its servers as they are."""

    title: str
    version: str
    channels: Mapping[str, Channel]
    servers: Mapping[str, Any]

    def messages(self) -> Iterator[tuple[Channel, Message]]:
        """Yield each message with its channel."""
        for channel in self.channels.values():
            for message in channel.messages.values():
                yield channel, message


def read(path: str | Path) -> Contract:
    """Return the contract of a JSON or YAML file.

    Raises:
        Unreadable: with the name of the file, the cause and the next step.
    """
    try:
        return contract_of(_loaded(Path(path)))
    except OSError as error:
        raise Unreadable(f"{path} cannot be read: {error.strerror or error}.") from error
    except BadReference as error:
        raise Unreadable(f"{path} cannot be read: {error}") from error
    except Unreadable as error:
        raise Unreadable(f"{path} {error}") from error
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise Unreadable(
            f"{path} is no valid AsyncAPI document ({type(error).__name__}). Validate it with "
            "@asyncapi/parser."
        ) from error


def contract_of(document: Any) -> Contract:
    """Return the contract of a document.

    Raises:
        Unreadable: it is no AsyncAPI document of version 2 or 3.
        BadReference: a reference leads nowhere.
    """
    version = str(document.get("asyncapi", "")) if isinstance(document, Mapping) else ""
    if version.partition(".")[0] not in ("2", "3"):
        raise Unreadable('is no AsyncAPI document of version 2 or 3: its "asyncapi" is missing.')
    make = _channel_of_3 if version.startswith("3") else _channel_of_2
    return Contract(
        title=document["info"]["title"],
        version=str(document["info"]["version"]),
        channels={
            name: make(document, name, follow(document, channel))
            for name, channel in (document.get("channels") or {}).items()
        },
        servers=document.get("servers") or {},
    )


def _loaded(path: Path) -> Any:
    text = path.read_text("utf-8")
    if path.suffix not in (".yaml", ".yml"):
        return json.loads(text)
    try:
        import yaml
    except ImportError as error:
        raise Unreadable("is YAML, which needs PyYAML. Install it, or use JSON.") from error
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise Unreadable(f"is no valid YAML: {error}") from error


def _channel_of_3(document: Mapping[str, Any], name: str, channel: Mapping[str, Any]) -> Channel:
    messages = {
        key: _message(document, key, one) for key, one in (channel.get("messages") or {}).items()
    }
    return Channel(
        id=name,
        address=channel.get("address") or "",
        messages=messages,
        operations=dict(_operations_of_3(document, channel, list(messages))),
        is_internal=bool(channel.get("x-outbox-internal")),
        bindings=channel.get("bindings"),
    )


def _operations_of_3(
    document: Mapping[str, Any], channel: Mapping[str, Any], keys: list[str]
) -> Iterator[tuple[str, tuple[Action, str]]]:
    for name, given in (document.get("operations") or {}).items():
        operation = follow(document, given)
        if follow(document, operation["channel"]) is not channel:
            continue
        named = operation.get("messages")
        chosen = keys if named is None else [one["$ref"].rpartition("/")[2] for one in named]
        for key in chosen:
            yield f"{name}, {key}", (operation["action"], key)


def _channel_of_2(document: Mapping[str, Any], name: str, channel: Mapping[str, Any]) -> Channel:
    messages: dict[str, Message] = {}
    operations: dict[str, tuple[Action, str]] = {}
    for word, action in _ACTIONS_OF_2:
        operation = channel.get(word) or {}
        given = follow(document, operation.get("message") or {"oneOf": []})
        for number, one in enumerate(given.get("oneOf", [given])):
            found = follow(document, one)
            key = found.get("messageId") or found.get("name") or f"{word} {number}"
            messages[key] = _message(document, key, found)
            operations[f"{operation.get('operationId', word)}, {key}"] = (action, key)
    return Channel(
        id=name,
        address=name,
        messages=messages,
        operations=operations,
        is_internal=False,
        bindings=channel.get("bindings"),
    )


def _message(document: Mapping[str, Any], key: str, given: Any) -> Message:
    own = follow(document, given)
    message = {**own}
    for trait in own.get("traits", ()):
        message = {**follow(document, trait), **message}
    content_type = message.get("contentType") or document.get("defaultContentType") or ""
    return Message(
        key=key,
        name=message.get("name") or "",
        content_type=content_type,
        payload=_payload(document, message),
        headers=bundled(document, message.get("headers", True)),
    )


def _payload(document: Mapping[str, Any], message: Mapping[str, Any]) -> Schema | bool | None:
    payload = message.get("payload", True)
    language = message.get("schemaFormat", "")
    if isinstance(payload, Mapping) and "schemaFormat" in payload:
        language, payload = payload["schemaFormat"], payload["schema"]
    if language and not language.startswith(_JSON_SCHEMAS):
        return None
    return bundled(document, payload)
