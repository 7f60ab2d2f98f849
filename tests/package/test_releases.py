"""The table of releases, and the wheels that are built from it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from packaging.version import Version

from tests.package.built import Distribution
from tests.package.releases import Release, ReleaseUnavailable, releases

pytestmark = pytest.mark.once


class TestTheTable:
    def test_lists_earlier_versions_in_their_order(self, distribution: Distribution):
        versions = [Version(release.version) for release in releases()]
        present = Version(str(distribution.metadata["Version"]))

        assert versions == sorted(set(versions))
        assert versions[-1] < present


class TestARelease:
    def test_whose_commit_is_missing_names_the_next_step(self, tmp_path: Path):
        release = Release("0.0.9", commit="0123456789abcdef0123456789abcdef01234567", sha256="")

        with pytest.raises(ReleaseUnavailable) as missing:
            release.build(tmp_path)

        assert str(missing.value) == (
            "Release 0.0.9 is built from commit 0123456, which this clone lacks: run "
            "`git fetch --unshallow`."
        )

    def test_with_other_sources_than_those_that_were_released_is_refused(self, tmp_path: Path):
        release = replace(releases()[0], sha256="0" * 64)

        try:
            with pytest.raises(ValueError, match="A released version never changes"):
                release.build(tmp_path)
        except ReleaseUnavailable as reason:
            pytest.skip(str(reason))
