"""Run dummy programs under the real supervisor.

Usage: dummy_stack.py FOLDER NAME:STAGE:BEHAVIOUR[:CODE[:overlaps]] ...

A file `changed` in the folder stands for changed code; `broken`, for code that does not load. With
CONTROL in the environment it takes requests for faults.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

# The supervisor needs neither Django nor Celery: leave out shop/__init__.py, which loads both.
ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))
sys.modules["shop"] = package = ModuleType("shop")
package.__path__ = [str(ROOT / "shop")]

from shop.up.console import Console  # noqa: E402  the lines above prepare it
from shop.up.control import Control  # noqa: E402  the lines above prepare it
from shop.up.errors import UpError  # noqa: E402
from shop.up.processes import Program  # noqa: E402
from shop.up.supervisor import Supervisor  # noqa: E402

folder = Path(sys.argv[1])


def program(description: str) -> Program:
    name, stage, behaviour, *code = description.split(":")
    return Program(
        name=name,
        command=[
            sys.executable,
            str(Path(__file__).with_name("dummy_program.py")),
            str(folder / "journal"),
            name,
            behaviour,
        ],
        stage=int(stage),
        ready=lambda process: process.has_printed("^at your service$"),
        ready_within=float(os.environ.get("READY_WITHIN", "60")),
        grace=float(os.environ.get("GRACE", "30")),
        pause=float(os.environ.get("PAUSE", "0.5")),
        code=code[0] if code else None,
        overlaps="overlaps" in code,
    )


def changes() -> Sequence[Path]:
    try:
        paths = [Path(line) for line in (folder / "changed").read_text().splitlines()]
        (folder / "changed").unlink()
    except FileNotFoundError:
        return []
    return paths


def before_reload() -> None:
    if (folder / "broken").exists():
        raise UpError("SyntaxError, line 1")


def main() -> int:
    console = Console()
    watched = changes if "RELOAD" in os.environ else None
    try:
        with Supervisor(console, changes=watched, before_reload=before_reload) as supervisor:
            supervisor.remove_at_the_end(folder / "run.json")
            console.info(f"guardian {supervisor.guardian_pid}")
            supervisor.start([program(description) for description in sys.argv[2:]])
            console.info("all ready")
            if "CONTROL" in os.environ:
                control = Control(folder / "control", supervisor, console.info)
                supervisor.run(each_turn=control.check)
            supervisor.run()
    except UpError as error:
        console.error(str(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
