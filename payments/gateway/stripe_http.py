"""The SDK's HTTP client: httpx, which distinguishes unsent requests from lost answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import httpx
import stripe

from payments.gateway.bank import NEVER_SENT, tls
from payments.gateway.port import GatewayUnavailable, OutcomeUnknown


class HttpxClient(stripe.HTTPClient):
    """Opens a connection for each request, as for the other bank."""

    name = "httpx"

    def __init__(self, *, timeout: float) -> None:
        super().__init__()
        self._timeout = timeout

    def request(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] | None,
        post_data: Any = None,
        *,
        _usage: list[str] | None = None,
    ) -> tuple[str, int, Mapping[str, str]]:
        try:
            with httpx.Client(timeout=self._timeout, verify=tls(), trust_env=False) as client:
                response = client.request(method, url, headers=headers, content=post_data)
        except NEVER_SENT as error:
            raise GatewayUnavailable(f"Stripe cannot be reached: {error}") from error
        except httpx.HTTPError as error:
            raise OutcomeUnknown(f"Stripe did not answer: {error!r}") from error
        return response.text, response.status_code, response.headers

    def close(self) -> None:
        """Do nothing: no connection is kept open."""
