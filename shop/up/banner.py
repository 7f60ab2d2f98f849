"""The next steps, printed once everything is ready."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from django.conf import settings

from shop.up.credentials import ADMIN, CUSTOMERS, Credentials
from shop.up.ports import HOST

ORDER: dict[str, Any] = {
    "payment_method": "tok_success",
    "lines": [{"sku": "TEA-SENCHA", "quantity": 2}],
}
PARCEL = {"carrier": "Yamato", "tracking_number": "4711"}
REFUND = {"return_stock": False}

TEXT = """
Ready.

  Shop        {url}/   (user {customer}, {customer_password})
  Admin       {url}/admin/   (user {admin}, {password})
  API docs    {url}/api/docs/   (press Authorize, paste a token)
  E-mails     {mail}
  API tokens  {tokens}

To place an order, paste this into another terminal:

  {order}

Its status becomes "ready_to_ship" within seconds. To list your orders, newest first:

  {orders}

To ship the newest order as staff, and to refund it:

  {ship}

  {refund}

Ctrl-C stops everything.
"""

#: Prints the id of the first order of a page. The order's own id is the first field named so.
FIRST_ID = 'grep -o \'"id":"[^"]*\' | head -n 1 | cut -d \'"\' -f 4'


def text(*, port: int, data: Path) -> str:
    """Return the banner. It contains passwords and tokens of the demo users, valid on loopback."""
    credentials = Credentials(data)
    url, token = f"http://{HOST}:{port}", credentials.get(CUSTOMERS[0], "token")
    return TEXT.format(
        url=url,
        customer=CUSTOMERS[0],
        customer_password=_password(credentials, CUSTOMERS[0]),
        admin=ADMIN,
        password=_password(credentials, ADMIN),
        mail=_where_mail_goes(data),
        tokens=_tokens(credentials),
        order=order_command(url, token),
        orders=list_command(url, token),
        ship=staff_command(url, credentials, "ship", PARCEL),
        refund=staff_command(url, credentials, "refunds", REFUND),
    )


def order_command(url: str, token: str) -> str:
    """Return one line for any shell, which places a new order each time."""
    return _post(f"{url}/api/orders/", token, ORDER)


def list_command(url: str, token: str) -> str:
    """Return one line that lists the orders of a customer, newest first."""
    return f"curl -s -H 'Authorization: Bearer {token}' {url}/api/orders/"


def staff_command(url: str, credentials: Credentials, action: str, body: Mapping[str, Any]) -> str:
    """Return one line with which staff act on the newest order of the first customer."""
    newest = f"$({list_command(url, credentials.get(CUSTOMERS[0], 'token'))} | {FIRST_ID})"
    token = credentials.get(ADMIN, "token")
    # A shell without $RANDOM has the same number for all commands of one second.
    return _post(f"{url}/api/orders/{newest}/{action}/", token, body, kind=f"{action}-")


def _post(url: str, token: str, body: Mapping[str, Any], *, kind: str = "") -> str:
    return (
        f"curl -s -H 'Authorization: Bearer {token}' -H 'Content-Type: application/json'"
        f" -H \"Idempotency-Key: {kind}$(date +%s)-$RANDOM\" -d '{json.dumps(body)}' {url}"
    )


def _password(credentials: Credentials, user: str) -> str:
    password = credentials.get(user, "password")
    return f"password {password}" if password else "with the password that you chose"


def _where_mail_goes(data: Path) -> str:
    """Name the folder of files in which no e-mail leaves the machine, or the mail server."""
    if "EMAIL_URL" not in os.environ:
        return f"written to files in {data / 'mail'}; none is sent"
    kind = settings.EMAIL_BACKEND.split(".")[-2]
    if kind == "smtp":
        return f"sent by the mail server {settings.EMAIL_HOST}:{settings.EMAIL_PORT} of EMAIL_URL"
    return f"as EMAIL_URL says: the backend {kind!r} of Django"


def _tokens(credentials: Credentials) -> str:
    shown = [f"{name}: {credentials.get(name, 'token')}" for name in CUSTOMERS]
    return ", ".join([*shown, f"{ADMIN} (staff): {credentials.get(ADMIN, 'token')}"])
