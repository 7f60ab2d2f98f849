"""The messages within the bytes of a connection, as far as a proxy has to know them.

One object for each connection. Sources: https://kafka.apache.org/protocol,
https://docs.nats.io/reference/reference-protocols/nats-protocol, AMQP 0-9-1.
"""

from __future__ import annotations

import asyncio
import json
import re
import struct

from shop.up.ports import HOST
from tests.chaos.edges.modes import Mode


class Wire:
    """A protocol without a known structure: each piece of bytes is one message."""

    def requested(self, data: bytes) -> None:
        """Look at bytes of the client."""

    def split(self, data: bytes) -> tuple[list[bytes], bytes]:
        """Return the complete messages of the server, and the rest."""
        return [data] if data else [], b""

    def is_acknowledgement(self, message: bytes) -> bool:
        """Return whether a message of the server acknowledges a message of the client."""
        return False

    async def refuse(
        self,
        client: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        server: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    ) -> None:
        """Refuse the credentials of a new connection."""
        raise NotImplementedError(Mode.EXPIRED)


class KafkaWire(Wire):
    """Frames with a size of four bytes. The server's address is replaced by that of the proxy."""

    PRODUCE = 0

    def __init__(self, server_port: int, proxy_port: int) -> None:
        self._address = HOST.encode() + struct.pack(">i", server_port)
        self._replacement = HOST.encode() + struct.pack(">i", proxy_port)
        self._produced: set[bytes] = set()
        self._requests = b""

    def requested(self, data: bytes) -> None:
        """Note the correlation ids of Produce requests."""
        frames, self._requests = _frames(self._requests + data)
        for frame in frames:
            if int.from_bytes(frame[4:6]) == self.PRODUCE:
                self._produced.add(frame[8:12])

    def split(self, data: bytes) -> tuple[list[bytes], bytes]:
        frames, rest = _frames(data)
        return [frame.replace(self._address, self._replacement) for frame in frames], rest

    def is_acknowledgement(self, message: bytes) -> bool:
        return message[4:8] in self._produced


class NatsWire(Wire):
    """Lines; MSG and HMSG have a payload of the size that ends the line."""

    def split(self, data: bytes) -> tuple[list[bytes], bytes]:
        found = []
        while (end := data.find(b"\r\n")) >= 0:
            words = data[:end].split()
            size = end + 2
            if words and words[0] in (b"MSG", b"HMSG"):
                size += int(words[-1]) + 2
            if len(data) < size:
                break
            found.append(data[:size])
            data = data[size:]
        return found, data

    def is_acknowledgement(self, message: bytes) -> bool:
        """Return whether it is an answer of JetStream about a stored message."""
        is_message = message.startswith((b"MSG", b"HMSG"))
        return is_message and b'"stream":' in message and b'"seq":' in message

    async def refuse(
        self,
        client: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        server: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    ) -> None:
        """Answer CONNECT as a server does whose user has expired."""
        reader, writer = client
        greeting = json.loads(re.sub(rb"^INFO ", b"", await server[0].readline()))
        writer.write(b"INFO " + json.dumps({**greeting, "auth_required": True}).encode() + b"\r\n")
        await reader.readline()
        writer.write(b"-ERR 'User Authentication Expired'\r\n")
        await writer.drain()


class AmqpWire(Wire):
    """Frames: type, channel, size, payload, and an end of one byte."""

    METHOD = 1
    ACK = struct.pack(">HH", 60, 80)
    #: connection.close with ACCESS_REFUSED, as the answer to connection.start-ok.
    REFUSAL = (
        struct.pack(">HHH", 10, 50, 403)
        + b"\x1eACCESS_REFUSED - Login refused"
        + struct.pack(">HH", 0, 0)
    )

    def split(self, data: bytes) -> tuple[list[bytes], bytes]:
        found = []
        while len(data) >= 7 and len(data) >= (size := 8 + int.from_bytes(data[3:7])):
            found.append(data[:size])
            data = data[size:]
        return found, data

    def is_acknowledgement(self, message: bytes) -> bool:
        return message[0] == self.METHOD and message[7:11] == self.ACK

    async def refuse(
        self,
        client: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        server: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    ) -> None:
        """Pass the server's greeting, and refuse the login."""
        (reader, writer), (answers, requests) = client, server
        requests.write(await reader.readexactly(8))
        writer.write(await _amqp_frame(answers))
        await _amqp_frame(reader)
        head = struct.pack(">BHI", self.METHOD, 0, len(self.REFUSAL))
        writer.write(head + self.REFUSAL + b"\xce")
        await writer.drain()
        await reader.read(64)  # connection.close-ok


async def _amqp_frame(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readexactly(7)
    return head + await reader.readexactly(int.from_bytes(head[3:]) + 1)


def _frames(data: bytes) -> tuple[list[bytes], bytes]:
    found = []
    while len(data) >= 4 and len(data) >= (size := 4 + int.from_bytes(data[:4])):
        found.append(data[:size])
        data = data[size:]
    return found, data
