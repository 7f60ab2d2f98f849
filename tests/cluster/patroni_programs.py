"""The programs of Patroni: its packages from the Python index, etcd and setpriv of the system.

Patroni is no requirement of the shop. `requirements-laboratory.txt` pins it. The packages are
installed into a folder of the checkout when they are first needed.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from shop import postgres

ROOT = Path(__file__).resolve().parents[2]
REQUIREMENTS = ROOT / "requirements-laboratory.txt"
_INSTALLED = ROOT / ".local" / "laboratory"
_SYSTEM = {"etcd": "etcd-server", "setpriv": "util-linux"}
_READ = "+dac_read_search"


class NoPatroni(Exception):
    """Patroni cannot run here; the text has the reason and the next step."""


def require_system_programs() -> None:
    """Raise NoPatroni, with one sentence, where etcd or setpriv is missing."""
    for program, package in _SYSTEM.items():
        if shutil.which(program) is None:
            raise NoPatroni(f"--patroni needs {program}: apt-get install {package}.")


def packages() -> Path:
    """Return the folder of Patroni's packages, and install them on the first call.

    Raises:
        NoPatroni: the Python index cannot be reached, or a file differs from its pin.
    """
    version = f"{sys.implementation.cache_tag}\n{REQUIREMENTS.read_text()}"
    folder = _INSTALLED / f"patroni-{hashlib.sha256(version.encode()).hexdigest()[:12]}"
    if not folder.exists():
        _install(folder)
    return folder


def _install(folder: Path) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix="draft-", dir=folder.parent))
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
               "--require-hashes", "-r", str(REQUIREMENTS), "--target", str(draft)]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        shutil.rmtree(draft)
        last = (done.stderr.strip().splitlines() or ["no output"])[-1]
        raise NoPatroni(f"pip cannot install {REQUIREMENTS.name}: {last}")
    try:
        draft.rename(folder)
    except OSError:  # another process was quicker
        shutil.rmtree(draft)


def variables() -> dict[str, str]:
    """Return the environment of Patroni's programs."""
    return {"PATH": os.defpath, "LC_ALL": "C.UTF-8", "PYTHONPATH": str(packages())}


def patroni(configuration: Path) -> list[str]:
    """Return the command of a member, as the user nobody: PostgreSQL does not run as root.

    The user may read all files, since the interpreter may be below the home of root.
    """
    user, group = postgres._nobody()
    become = ["setpriv", f"--reuid={user}", f"--regid={group}", "--clear-groups",
              f"--inh-caps={_READ}", f"--ambient-caps={_READ}"]  # fmt: skip
    return [*become, sys.executable, "-m", "patroni", str(configuration)]


def patronictl(configuration: Path, arguments: Sequence[str]) -> str:
    """Run patronictl; return its output. Raise AssertionError if it fails."""
    program = packages() / "bin" / "patronictl"
    done = subprocess.run(
        [sys.executable, program, "-c", configuration, *arguments],
        env=variables(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"patronictl {' '.join(arguments)}: {done.stdout}{done.stderr}"
    return done.stdout
