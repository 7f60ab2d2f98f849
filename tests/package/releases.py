"""The released distributions of the outbox, built from git.

`python -m tests.package.releases COMMIT` prints the row of a new release for `releases.toml`.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tarfile
import tempfile
import tomllib
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from tests.package.built import Distribution, build

ROOT = Path(__file__).resolve().parents[2]
TABLE = Path(__file__).with_name("releases.toml")
#: Of the tool that builds, and not of the release.
NOT_OF_THE_RELEASE = {"PKG-INFO"}


class ReleaseUnavailable(Exception):
    """The wheel of a release cannot be built here; the text has the reason and the next step."""


@dataclass(frozen=True)
class Release:
    """A release in `releases.toml`.

    Attributes:
        version: its version.
        commit: the commit of its sources, if the repository has no tag of the release.
        sha256: of the names and contents of its sdist's files.
    """

    version: str
    commit: str
    sha256: str

    def build(self, folder: Path) -> Distribution:
        """Build sdist and wheel in `folder`, and unpack the wheel.

        Raises:
            ReleaseUnavailable: the repository lacks the commit.
            ValueError: the sources are not those that were released.
        """
        distribution = build(checked_out(self._revision(), folder / "sources"), folder)
        found = digest(distribution.sdist)
        if found != self.sha256:
            raise ValueError(
                f"The sdist of release {self.version} has the digest {found}, and {TABLE.name} has "
                f"{self.sha256}. Was the tag outbox-{self.version} moved? A released version never "
                "changes: restore the tag, or release another version."
            )
        return distribution

    def _revision(self) -> str:
        for revision in (f"outbox-{self.version}", self.commit):
            if _has_commit(revision):
                return revision
        raise ReleaseUnavailable(
            f"Release {self.version} is built from commit {self.commit[:7]}, which this clone "
            "lacks: run `git fetch --unshallow`."
        )


def releases() -> list[Release]:
    """Return the releases, the earliest first."""
    table = tomllib.loads(TABLE.read_text())
    return [Release(version, **row) for version, row in table.items()]


def checked_out(revision: str, folder: Path) -> Path:
    """Write the folder `outbox` of a revision into `folder`; return it."""
    archive = subprocess.run(
        ["git", "archive", revision, "outbox"], cwd=ROOT, capture_output=True, check=True
    ).stdout
    with tarfile.open(fileobj=BytesIO(archive)) as files:
        files.extractall(folder, filter="data")
    return folder / "outbox"


def digest(sdist: Path) -> str:
    """Return the SHA-256 of names and contents, which does not depend on times and compression."""
    total = hashlib.sha256()
    with tarfile.open(sdist) as archive:
        files = {one.name.partition("/")[2]: one for one in archive.getmembers() if one.isfile()}
        for name in sorted(files.keys() - NOT_OF_THE_RELEASE):
            extracted = archive.extractfile(files[name])
            assert extracted is not None
            total.update(f"{name}\0{files[name].size}\0".encode() + extracted.read())
    return total.hexdigest()


def _has_commit(revision: str) -> bool:
    ask = ["git", "rev-parse", "--quiet", "--verify", f"{revision}^{{commit}}"]
    return subprocess.run(ask, cwd=ROOT, capture_output=True, check=False).returncode == 0


def main() -> None:
    """Print the row of the revision that is named on the command line."""
    revision = sys.argv[1]
    commit = subprocess.run(
        ["git", "rev-parse", f"{revision}^{{commit}}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    with tempfile.TemporaryDirectory(prefix="outbox-release-") as folder:
        distribution = build(checked_out(commit, Path(folder) / "sources"), Path(folder))
        version = distribution.metadata["Version"]
        print(f'["{version}"]\ncommit = "{commit}"\nsha256 = "{digest(distribution.sdist)}"')


if __name__ == "__main__":
    main()
