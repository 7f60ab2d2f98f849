"""The next steps, printed once everything is ready."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from shop.up.credentials import ADMIN, CUSTOMERS, Credentials
from shop.up.ports import HOST

ORDER: dict[str, Any] = {
    "payment_method": "tok_success",
    "lines": [{"sku": "TEA-SENCHA", "quantity": 2}],
}

TEXT = """
Ready.

  Admin       {url}/admin/   (user {admin}, {password})
  API docs    {url}/api/docs/
  E-mails     {mail}
  API tokens  {tokens}

To place an order, paste this into another terminal:

  {order}

Its status becomes "ready_to_ship" within seconds. To list your orders, newest first:

  {orders}

Ctrl-C stops everything.
"""


def text(*, port: int, data: Path) -> str:
    """Return the banner. It contains passwords and tokens of the demo users, valid on loopback."""
    credentials = Credentials(data)
    url, token = f"http://{HOST}:{port}", credentials.get(CUSTOMERS[0], "token")
    password = credentials.get(ADMIN, "password")
    return TEXT.format(
        url=url,
        admin=ADMIN,
        password=f"password {password}" if password else "with the password that you chose",
        mail=data / "mail",
        tokens=", ".join(f"{name}: {credentials.get(name, 'token')}" for name in CUSTOMERS),
        order=order_command(url, token),
        orders=f"curl -s -H 'Authorization: Token {token}' {url}/api/orders/",
    )


def order_command(url: str, token: str) -> str:
    """Return one line for any shell, which places a new order each time."""
    return (
        f"curl -s -H 'Authorization: Token {token}' -H 'Content-Type: application/json'"
        f" -H \"Idempotency-Key: $(date +%s)-$RANDOM\" -d '{json.dumps(ORDER)}' {url}/api/orders/"
    )
