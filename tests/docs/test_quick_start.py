"""The quick start shows what `make up` prints."""

from __future__ import annotations

from pathlib import Path

import pytest

from shop.up import banner
from shop.up.credentials import Credentials
from tests.docs.pages import Page

SHOWN = {
    ("admin", "password"): "FNao...",
    ("admin", "token"): "0f4a...",
    ("alice", "password"): "Wd3x...",
    ("alice", "token"): "774f...",
    ("hanako", "token"): "cad6...",
}


class TestTheBanner:
    def test_is_the_printed_one(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.delenv("EMAIL_URL", raising=False)
        for (user, kind), value in SHOWN.items():
            Credentials(tmp_path).set(user, kind, value)

        printed = banner.text(port=8000, data=tmp_path)

        (block,) = (one for one in Page("docs/quick-start.md").blocks("text") if "Ready." in one)
        assert block.strip() == printed.replace(str(tmp_path), "/home/you/shop/.local").strip()
