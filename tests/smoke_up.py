"""Check `make up` with real programs: `python -m tests.smoke_up`.

Start the stack, place an order with the printed line, wait until it is ready to ship and its
e-mails are written, and stop with Ctrl-C. Start again: the order still exists, a second `up` is
refused, and a killed supervisor leaves no process. If a step fails, the last line names it.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

from tests.processes import NOTHING_GIVEN, Running, descendants, eventually, is_alive

ROOT = Path(__file__).parents[1]
CEILING = 180.0  # seconds; far more than is needed, for machines that are slow or busy
END_OF_EMAIL = "-" * 79 + "\n"  # written by Django's file backend


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="shop-up-") as folder:
        data = Path(folder)
        with running(data) as up:
            order = place_an_order(up)
            wait_until_ready_to_ship(up, order)
            see_the_banks_reports(up, order)
            see_its_emails(data, order)
            see_that_others_read_nothing(data)
            ship_and_refund(up, order)
            stop_with_ctrl_c(up, data)
            see_no_traceback(up)
        with running(data, "--scale", "inventory=2") as up:
            see_it_again(up, order)
            refuse_a_second_one(up, data)
            kill_the_supervisor(up, data)
    step("passed")


@contextmanager
def running(data: Path, *arguments: str) -> Iterator[Running]:
    started = time.monotonic()
    up = start(data, *arguments)
    try:
        up.says("^Ready", within=CEILING)
        up.says("^Ctrl-C stops everything")  # the banner's last line
        step(
            f"ready after {time.monotonic() - started:.1f} s, {len(descendants(up.pid))} processes"
        )
        yield up
    except BaseException:
        print(up.output)
        raise
    finally:
        up.end_for_sure()


def start(data: Path, *arguments: str) -> Running:
    command = [sys.executable, "manage.py", "up", "--port", "0", "--no-reload", "--data", str(data)]
    return Running([*command, *arguments], environment=NOTHING_GIVEN, folder=ROOT)


def place_an_order(up: Running) -> dict[str, Any]:
    line = up.says(r"^\s*(curl .* -d .*)$")[1]
    order: dict[str, Any] = json.loads(paste(line))
    assert order["status"] == "placed", order
    step(f"placed {order['reference']} with the printed command")
    return order


def wait_until_ready_to_ship(up: Running, order: dict[str, Any]) -> None:
    started = time.monotonic()

    def status() -> str:
        found = str(see(up, order)["status"])
        assert found != "cancelled", see(up, order)
        return found

    await_value(status, "ready_to_ship", f"status of {order['reference']}")
    step(f"ready_to_ship after {time.monotonic() - started:.1f} s")


def ship_and_refund(up: Running, order: dict[str, Any]) -> None:
    """Paste the printed commands of staff, which act on the newest order. They need curl."""
    if not shutil.which("curl"):
        return
    shipped = json.loads(paste(up.says(r"^\s*(curl .*/ship/)$")[1]))
    assert (shipped["id"], shipped["status"]) == (order["id"], "shipped")
    refund = json.loads(paste(up.says(r"^\s*(curl .*/refunds/)$")[1]))
    assert refund["status"] == "requested", refund
    await_value(
        lambda: see(up, order)["refund_status"],
        "fully_refunded",
        f"refund_status of {order['reference']}",
    )
    step("shipped and refunded with the printed commands")


def see_no_traceback(up: Running) -> None:
    assert "Traceback" not in up.output, up.output
    step("no program printed a traceback, from its start to its stop")


def see_the_banks_reports(up: Running, order: dict[str, Any]) -> None:
    def reports() -> int:
        events = ask(up, f"/api/orders/{order['id']}/timeline/")
        return sum(event["name"] == "payments.BankReported" for event in events["results"])

    # It holds the money, it took it.
    await_value(reports, 2, "webhooks of the bank stored")
    step("2 signed webhooks of the bank stored")


def see_its_emails(data: Path, order: dict[str, Any]) -> None:
    def emails() -> list[str]:
        # Django names a file by the second and the address of its writer in memory: two e-mails of
        # one second may share a file.
        files = (data / "mail").glob("*") if (data / "mail").exists() else ()
        texts = [text for file in files for text in file.read_text().split(END_OF_EMAIL)]
        return [text for text in texts if order["reference"] in text]

    # It was placed, it was paid, it is ready to ship.
    await_value(lambda: min(len(emails()), 3), 3, f"e-mails about {order['reference']}")
    assert all("alice@example.com" in email for email in emails())
    step(f"{len(emails())} e-mails written")


def see_that_others_read_nothing(data: Path) -> None:
    found = [path for path in data.rglob("*") if is_open_to_others(path)]
    assert found == [], found
    step("no file, folder or socket is accessible to other users")


def is_open_to_others(path: Path) -> bool:
    try:
        return bool(path.stat().st_mode & 0o077)
    except FileNotFoundError:  # a journal of SQLite comes and goes
        return False


def stop_with_ctrl_c(up: Running, data: Path) -> None:
    all_of_it, started = descendants(up.pid), time.monotonic()
    up.send(signal.SIGINT)
    assert up.ends(within=CEILING) == 0, up.output
    assert not any(map(is_alive, all_of_it)), all_of_it
    assert not (data / "run.json").exists()
    step(f"stopped by Ctrl-C in {time.monotonic() - started:.1f} s, no process left")


def see_it_again(up: Running, order: dict[str, Any]) -> None:
    assert see(up, order)["status"] == ("shipped" if shutil.which("curl") else "ready_to_ship")
    step("started again with the same order and token")


def refuse_a_second_one(up: Running, data: Path) -> None:
    second = start(data)
    try:
        assert second.ends(within=CEILING) == 1
        assert str(up.pid) in second.output, second.output
        assert address(up) in second.output, second.output
    finally:
        second.end_for_sure()
    step(f"refused a second one: {second.output}")


def kill_the_supervisor(up: Running, data: Path) -> None:
    all_of_it, started = descendants(up.pid), time.monotonic()
    up.send(signal.SIGKILL)
    await_value(
        lambda: [command_line(pid) for pid in all_of_it if is_alive(pid)], [], "programs that run"
    )
    assert not (data / "run.json").exists()
    step(f"killed the supervisor: no process left after {time.monotonic() - started:.1f} s")


def await_value(read: Callable[[], object], wanted: object, what: str) -> None:
    """Wait until a value is read; fail with the last one that was read instead."""
    found: list[object] = []

    def is_read() -> bool:
        found[:] = [read()]
        return found == [wanted]

    try:
        eventually(is_read, what, within=CEILING)
    except AssertionError:
        last = found[-1] if found else "nothing"
        raise AssertionError(f"{what}: {last!r} after {CEILING:g} s, not {wanted!r}") from None


def command_line(pid: int) -> str:
    arguments = ["ps", "-ww", "-o", "pid=,stat=,args=", "-p", str(pid)]
    return subprocess.run(arguments, capture_output=True, text=True).stdout.strip()


def see(up: Running, order: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = ask(up, f"/api/orders/{order['id']}/")
    return found


def ask(up: Running, path: str) -> Any:
    """What the API answers to the token of the printed line."""
    token = up.says(r"Authorization: Bearer (\w+)")[1]
    request = Request(address(up) + path, headers={"Authorization": f"Bearer {token}"})
    with urlopen(request, timeout=30) as answer:
        return json.load(answer)


def address(up: Running) -> str:
    return up.says(r"(http://127\.0\.0\.1:\d+)/admin/")[1]


def paste(line: str) -> str:
    """Do what a person does: let a shell run the line. Where there is no curl, do as it would."""
    if shutil.which("curl"):
        return subprocess.run(["sh", "-c", line], capture_output=True, text=True, check=True).stdout
    words = shlex.split(line)
    values = {word: words[at + 1] for at, word in enumerate(words) if word == "-d"}
    headers = [words[at + 1] for at, word in enumerate(words) if word == "-H"]
    request = Request(words[-1], data=values["-d"].encode())
    for header in headers:
        request.add_header(*re.split(r":\s*", header, maxsplit=1))
    with urlopen(request, timeout=30) as answer:
        body: str = answer.read().decode()
    return body


def step(text: str) -> None:
    print(f"smoke | {text}", flush=True)


def failed_step(error: Exception) -> str:
    """Return the name of the function that `main` called when it failed."""
    names = [frame.name for frame in traceback.extract_tb(error.__traceback__)]
    return names[names.index("main") + 1] if names[-1] != "main" else "main"


if __name__ == "__main__":
    try:
        main()
    except Exception as error:
        traceback.print_exc()
        reason = str(error).partition("\n")[0] or type(error).__name__
        sys.exit(f"smoke | failed in {failed_step(error)}: {reason}")
