"""Run a command as `hardening.conf` confines a service, as far as that needs no systemd.

    python -m tests.docs.confined [--writable FOLDER] COMMAND ...

bubblewrap makes the file system read-only, /tmp, /dev and IPC private, and a user namespace in
which the command has no capability and can gain none. The groups of system calls, the address
families, MDWE and the umask are read from the file itself. Not applied: ProtectHome= (a developer's
interpreter may be there), RestrictNamespaces=, RestrictRealtime=, and what ProtectKernel...= takes
from root alone.
"""

from __future__ import annotations

import argparse
import ctypes
import ctypes.util
import errno
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HARDENING = ROOT / "deploy/systemd/shop-.service.d/hardening.conf"
NEEDED = ("systemd-analyze", "bwrap")
#: Another user than root, as in the units.
USER = "10001"
#: From sys/prctl.h (Linux 6.3): no mapping may be made executable later, or be writable meanwhile.
PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN = 65, 1
#: From seccomp.h.
ACT_ALLOW, CMP_EQ = 0x7FFF0000, 4
#: What ProcSubset=pid hides, as far as a library may look at it.
HIDDEN = ("/proc/meminfo", "/proc/cpuinfo", "/proc/stat", "/proc/loadavg")


class Comparison(ctypes.Structure):
    """`struct scmp_arg_cmp`."""

    _fields_ = [
        ("arg", ctypes.c_uint),
        ("op", ctypes.c_int),
        ("datum_a", ctypes.c_uint64),
        ("datum_b", ctypes.c_uint64),
    ]


def missing() -> list[str]:
    """Return what this machine lacks to confine a command."""
    lacking = [name for name in NEEDED if not shutil.which(name)]
    if not ctypes.util.find_library("seccomp"):
        lacking.append("libseccomp")
    if not lacking and not _may_make_namespaces():
        lacking.append("the right to make user namespaces")
    return lacking


def _may_make_namespaces() -> bool:
    trial = ["bwrap", "--ro-bind", "/", "/", "--unshare-user", "--disable-userns", "true"]
    return subprocess.run(trial, capture_output=True).returncode == 0


def directives() -> dict[str, list[str]]:
    """Return the values of each directive of the sandbox, in their order."""
    found: dict[str, list[str]] = {}
    for line in HARDENING.read_text().splitlines():
        name, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            found.setdefault(name, []).append(value)
    return found


def allowed_calls() -> set[str]:
    """Return the system calls that `SystemCallFilter=` allows."""
    allowed: set[str] = set()
    for value in directives()["SystemCallFilter"]:
        named = {call for group in value.removeprefix("~").split() for call in _calls_of(group)}
        allowed = allowed - named if value.startswith("~") else allowed | named
    return allowed | set(_calls_of("@default"))


def _calls_of(group: str) -> Iterator[str]:
    if not group.startswith("@"):
        yield group
        return
    listed = subprocess.run(
        ["systemd-analyze", "--no-pager", "syscall-filter", group],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    for line in listed.splitlines()[1:]:
        if (name := line.strip()) and not name.startswith("#"):
            yield from _calls_of(name)


def seccomp_filter() -> int:
    """Return a file with the compiled filter: what is not allowed fails with EPERM."""
    library = ctypes.CDLL(ctypes.util.find_library("seccomp"), use_errno=True)
    library.seccomp_init.restype = ctypes.c_void_p
    context = ctypes.c_void_p(library.seccomp_init(0x00050000 | errno.EPERM))
    for name in sorted(allowed_calls() - {"socket"}):
        _allow(library, context, name)
    for family in directives()["RestrictAddressFamilies"][0].split():
        _allow(library, context, "socket", Comparison(0, CMP_EQ, getattr(socket, family), 0))
    file = os.memfd_create("seccomp", 0)
    if library.seccomp_export_bpf(context, file) != 0:
        raise OSError("The filter of system calls could not be compiled.")
    os.lseek(file, 0, os.SEEK_SET)
    return file


def _allow(
    library: ctypes.CDLL, context: ctypes.c_void_p, name: str, *comparisons: Comparison
) -> None:
    number = library.seccomp_syscall_resolve_name(name.encode())
    if number >= 0:  # negative: this processor has no such call
        given = (Comparison * len(comparisons))(*comparisons)
        added = library.seccomp_rule_add_array(
            context, ACT_ALLOW, number, len(comparisons), given if comparisons else None
        )
        if added != 0:
            raise OSError(-added, f"No rule for the system call {name}.")


def bubblewrap(writable: list[str]) -> list[str]:
    """Return the command that confines what follows it, without the filter of system calls."""
    visible = {str(ROOT), sys.prefix, sys.base_prefix}
    return [
        *("bwrap", "--die-with-parent", "--ro-bind", "/", "/", "--tmpfs", "/tmp"),
        *("--tmpfs", "/var/tmp", "--dev", "/dev", "--proc", "/proc", "--tmpfs", "/proc/sys"),
        *(word for path in HIDDEN for word in ("--ro-bind", "/dev/null", path)),
        *(word for folder in sorted(visible) for word in ("--ro-bind", folder, folder)),
        *(word for folder in writable for word in ("--bind", folder, folder)),
        *("--unshare-user", "--disable-userns", "--unshare-ipc", "--unshare-uts"),
        *("--uid", USER, "--gid", USER, "--cap-drop", "ALL"),
    ]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--writable", action="append", default=[])
    parser.add_argument("command", nargs=argparse.REMAINDER)
    options = parser.parse_args()
    os.umask(int(directives()["UMask"][0], 8))
    if directives()["MemoryDenyWriteExecute"] == ["yes"]:
        refused = ctypes.CDLL(None).prctl(PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN, 0, 0, 0)
        if refused:
            raise SystemExit("This kernel has no MDWE; it came with Linux 6.3.")
    file = seccomp_filter()
    os.set_inheritable(file, True)
    words = [*bubblewrap(options.writable), "--seccomp", str(file), *options.command]
    os.execvp(words[0], words)


if __name__ == "__main__":
    main()
