"""RabbitMQ over TLS, with a certificate for the host in the URL.

kombu verifies that a known authority has issued the certificate, and not for which host. Its option
`server_hostname` keeps the name of the first of several nodes. `shop.celery` selects this class for
`amqps://`.
"""

from __future__ import annotations

from typing import Any

from kombu.transport import pyamqp

_Transport: Any = pyamqp.SSLTransport  # the stubs lack it


class Transport(_Transport):  # type: ignore[misc]  # a class without a known type
    """Verifies the host's name at each connection, and sends it to the server."""

    def establish_connection(self) -> Any:
        """Connect to the node that is tried now, with the TLS options that were given."""
        client = self.client
        name, given = client.hostname or "localhost", client.ssl
        client.ssl = {"server_hostname": name, **(given if isinstance(given, dict) else {})}
        try:
            return super().establish_connection()
        finally:  # kombu replaces "localhost", and the next node has another name
            client.hostname, client.ssl = name, given
