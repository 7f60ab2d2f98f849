"""The receiver of the HTTP sink: it answers each POST with 204 and keeps connections open.

`python -m benchmarks.project.receiver` prints its port, and runs until it is stopped. It does
nothing with a body, so that it limits the sender as little as a program in Python can.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

_ANSWER = b"HTTP/1.1 204 No Content\r\n\r\n"
_LENGTH = b"content-length:"


async def main() -> None:
    """Listen on a free port of the loopback interface."""
    server = await asyncio.start_server(_answer_each, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


async def _answer_each(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError, asyncio.IncompleteReadError):
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(_length(head))
            writer.write(_ANSWER)
            await writer.drain()
    writer.close()


def _length(head: bytes) -> int:
    lines = (line for line in head.lower().splitlines() if line.startswith(_LENGTH))
    return int(next(lines, _LENGTH + b"0")[len(_LENGTH) :])


if __name__ == "__main__":
    asyncio.run(main())
