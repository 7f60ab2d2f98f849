"""SNS and SQS: `moto_server`. It keeps everything in memory, so a killed one is empty again."""

from __future__ import annotations

import http.client
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

from shop.up.ports import HOST, free_port
from tests.servers.server import Server, ServerMissing, program

REGION = "eu-central-1"


class AwsServer(Server):
    """All services at one address. `options` are arguments of `boto3.client`."""

    name: ClassVar[str] = "AWS"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        if find_spec("flask_cors") is None:
            raise ServerMissing('moto_server needs Flask-Cors: install the wheel "flask-cors".')
        self._port = free_port()
        self.url = f"http://{HOST}:{self._port}"
        self.command = [program("moto_server", "moto[server]"), "-H", HOST, "-p", str(self._port)]

    @property
    def options(self) -> dict[str, Any]:
        """Address, region, and credentials that moto accepts."""
        return {
            "endpoint_url": self.url,
            "region_name": REGION,
            "aws_access_key_id": "test-key",
            "aws_secret_access_key": "test-secret",
        }

    def client(self, service: str) -> Any:
        """Return a client of "sns" or "sqs"."""
        import boto3

        return boto3.client(service, **self.options)

    def answers(self) -> bool:
        connection = http.client.HTTPConnection(HOST, self._port, timeout=5)
        try:
            connection.request("GET", "/moto-api/data.json")
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()

    def reset(self) -> None:
        """Delete all topics and queues."""
        connection = http.client.HTTPConnection(HOST, self._port, timeout=30)
        connection.request("POST", "/moto-api/reset")
        assert connection.getresponse().status == 200
        connection.close()
