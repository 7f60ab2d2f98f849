"""Without a browser, tests are skipped, or fail if they are required."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.browser import chromium


@pytest.fixture
def no_browser(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))


@pytest.mark.usefixtures("no_browser")
class TestWithoutAChromium:
    def test_a_test_is_skipped_with_a_reason(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.delenv(chromium.MUST_RUN, raising=False)

        with pytest.raises(pytest.skip.Exception, match="There is no Chromium on PATH"):
            chromium.required()

    def test_a_test_fails_if_it_is_required(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setenv(chromium.MUST_RUN, "1")

        with pytest.raises(pytest.fail.Exception, match="There is no Chromium on PATH"):
            chromium.required()


class TestAChromium:
    def test_is_found_by_any_of_its_names(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
        program = tmp_path / "chromium-browser"
        program.touch(mode=0o755)
        monkeypatch.setenv("PATH", str(tmp_path))

        assert chromium.required() == str(program)
