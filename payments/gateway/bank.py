"""Adapter for a bank with the HTTP API that `payments.simulator` describes."""

from __future__ import annotations

import ssl
import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from functools import cache
from typing import Any

import httpx

from payments.gateway import signatures
from payments.gateway.bank_answers import (
    raise_for_status,
    read,
    read_authorization,
    read_capture,
    read_record,
    read_refund,
    read_report,
    read_void,
)
from payments.gateway.port import (
    Authorization,
    BankRecord,
    Capture,
    GatewayUnavailable,
    OutcomeUnknown,
    Refund,
    Report,
    Void,
)
from shared.money import Money

Json = dict[str, Any]

#: Failures that occur before the first byte of the request is sent.
NEVER_SENT = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    httpx.UnsupportedProtocol,
    httpx.LocalProtocolError,
    httpx.InvalidURL,
)


class BankGateway:
    """The bank at `url`.

    Args:
        url: scheme, host and port, such as "https://bank.example".
        api_key: our key, sent as a bearer token.
        timeout: seconds to wait for the connection, and again for the answer.
        processing_time: how long the bank may work on a request, as agreed with the bank.
        webhook_secrets: secrets that may sign its webhooks; several while the secret changes.
    """

    key_life = timedelta(hours=24)

    def __init__(
        self,
        *,
        url: str,
        api_key: str,
        timeout: float,
        processing_time: timedelta = timedelta(minutes=1),
        webhook_secrets: Sequence[str] = (),
    ) -> None:
        self.processing_time = processing_time
        self._webhook_secrets = webhook_secrets
        self._url = url
        self._headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._timeout = timeout

    def authorize(
        self, *, reference: str, amount: Money, payment_method: str, idempotency_key: str
    ) -> Authorization:
        """See `Gateway.authorize`."""
        wanted = {"reference": reference, "payment_method": payment_method, **amount.model_dump()}
        response = self._post("/v1/authorizations", wanted, idempotency_key)
        return read(response, read_authorization)

    def capture(self, *, authorization_id: str, amount: Money, idempotency_key: str) -> Capture:
        """See `Gateway.capture`."""
        path = f"/v1/authorizations/{authorization_id}/capture"
        return read(self._post(path, amount.model_dump(), idempotency_key), read_capture)

    def void(self, *, authorization_id: str, idempotency_key: str) -> Void:
        """See `Gateway.void`."""
        path = f"/v1/authorizations/{authorization_id}/void"
        return read(self._post(path, {}, idempotency_key), read_void)

    def refund(
        self, *, reference: str, capture_id: str, amount: Money, idempotency_key: str
    ) -> Refund:
        """See `Gateway.refund`. This bank identifies the purchase by its capture."""
        path = f"/v1/captures/{capture_id}/refunds"
        return read(self._post(path, amount.model_dump(), idempotency_key), read_refund)

    def find(self, *, reference: str) -> BankRecord | None:
        """See `Gateway.find`."""
        response = self._send("GET", "/v1/authorizations", params={"reference": reference})
        found = read(response, lambda answer: [read_record(one) for one in answer["data"]])
        held = [one for one in found if not one.authorization.is_declined]
        return next(iter(held or found), None)

    def verify_report(self, *, body: bytes, headers: Mapping[str, str]) -> None:
        """See `Gateway.verify_report`."""
        header = headers.get("Bank-Signature", "")
        signatures.verify(body, header, secrets=self._webhook_secrets, now=time.time())

    def read_report(self, *, body: bytes) -> Report:
        """See `Gateway.read_report`."""
        return read_report(body)

    def _post(self, path: str, body: Json, idempotency_key: str) -> httpx.Response:
        headers = {"Idempotency-Key": idempotency_key}
        return self._send("POST", path, json=body, headers=headers)

    def _send(self, method: str, path: str, **request: Any) -> httpx.Response:
        try:
            with self._client() as client:
                response = client.request(method, path, **request)
        except NEVER_SENT as error:
            raise GatewayUnavailable(f"The bank cannot be reached: {error}") from error
        except httpx.HTTPError as error:
            raise OutcomeUnknown(f"The bank did not answer: {error!r}") from error
        raise_for_status(response)
        return response

    def _client(self) -> httpx.Client:
        # A new connection for each request. Forked workers share none. The bank cannot close one
        # before its use, which would turn a certain failure into an unknown outcome.
        return httpx.Client(
            base_url=self._url,
            headers=self._headers,
            timeout=self._timeout,
            verify=tls(),
            trust_env=False,
        )


@cache
def tls() -> ssl.SSLContext:
    # Loading the certificates takes longer than a request.
    return httpx.create_ssl_context(trust_env=False)
