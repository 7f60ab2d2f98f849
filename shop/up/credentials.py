"""The demo users' passwords and tokens, stored in the data folder for their owner alone."""

from __future__ import annotations

import secrets
from pathlib import Path

from shop.up.files import read_json, write_json

ADMIN = "admin"
CUSTOMERS = ("alice", "hanako")


class Credentials:
    """`credentials.json`: a password and an API token for each user."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "credentials.json"
        self._users: dict[str, dict[str, str]] = read_json(self._path)

    def knows(self, user: str) -> bool:
        return user in self._users

    def get(self, user: str, kind: str) -> str:
        """Return the user's "password" or "token"; "" if it is unknown."""
        return self._users.get(user, {}).get(kind, "")

    def set(self, user: str, kind: str, value: str) -> None:
        self._users.setdefault(user, {})[kind] = value
        write_json(self._path, self._users)


def new_password() -> str:
    return secrets.token_urlsafe(12)
