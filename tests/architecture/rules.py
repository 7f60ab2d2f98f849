"""The rules of imports, each with the sentence that reports a breach."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterable, Iterator
from functools import cached_property
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise
from pathlib import Path

from .imports import Import, Source

PROJECT = "shop"
#: Beside its top-level names a library offers a room to the modules of one kind.
OFFERED_TO = {"admin": "admin", "invariants": "reconciliation", "events": "sources"}
#: Modules of a library for every app. Migrations refer to ids and secrets by these paths. The
#: shop's webhooks sign, and limit an exchange in time, as the outbox's HTTP sink does.
OFFERED_WHOLE = {"ids", "sinks.signatures", "sinks.timed_http"}
#: Rooms whose names in `__all__` every app may use. Models use the guards of rows, code that waits
#: for other systems uses settlements, async code emits by `emission.aemit`, and the function of a
#: channel gets an `AlertMessage`.
OFFERED_TO_ALL = ("alerts", "emission", "guards", "guards.locks", "settlements")
LIBRARIES = {"outbox", "api"}  # generic: they know no shop, and not each other
FOR_DEVELOPERS = {"tests", "benchmarks"}
START = {"manage"}

# From top to bottom; each may import its own layer and those below. A module of another name
# counts as what it imports.
LAYERS = (
    {"apps", "urls"},
    {"views", "serializers", "handlers", "tasks", "admin", "management", "checks"},
    {"services"},
    {"queries", "invariants"},
    {"models", "events", "gateway"},
)

# In the outbox, relay and worker run without the rooms that show or repair, and without each other.
# `outbox.tasks` and `outbox.local` join them. A sink is a bulk handler to them, and so is the
# sender of stored calls. A source stores events.
_JOINED = {"tasks", "local", "sinks", "sources", "celery_tasks"}
ENGINE = {
    "relay": {"worker", *_JOINED},
    "worker": {"relay", *_JOINED},
    "transports": {"relay", "worker", *_JOINED},
    "deliveries": {"relay", "worker", *_JOINED},
}
LOOKERS = {"operations", "admin", "doctor", "drawing", "management", "metrics", "monitor", "alerts"}
#: Only these rooms import a room: `tasks` and `local` start the thread that sends alerts, and the
#: others show, test and check them. So nothing depends on a message that may not arrive.
IMPORTED_BY = {"alerts": {"tasks", "local", "management", "checks", "admin"}}


class Project:
    """The source below `root`, judged as a project with these first-party apps."""

    def __init__(self, root: Path, apps: Iterable[str]) -> None:
        self.source = Source(root)
        self.apps = set(apps)

    def breaches(self) -> list[str]:
        """Return one line for each broken rule: file, line, what is imported, and why not."""
        found = [
            f"{imported}: {reason}"
            for imported in self.source.imports
            for reason in self._reasons_against(imported)
        ]
        found += self._circle("modules", self._between_modules())
        return found + self._circle("apps", self._between_apps())

    def _reasons_against(self, imported: Import) -> Iterator[str]:
        importer, target = self._owner(imported.importer), self._owner(imported.target)
        if importer in FOR_DEVELOPERS:
            return
        if target in FOR_DEVELOPERS:
            yield "what runs for real imports no tests or benchmarks."
        elif program := self._foreign_program(imported.importer, imported.target):
            yield f"{program} is a program of its own; start it, do not import it."
        elif importer == target:
            yield from self._reasons_inside(imported)
        elif target in self.apps:
            yield from self._reasons_across(imported, importer, target)

    def _reasons_across(self, imported: Import, importer: str, target: str) -> Iterator[str]:
        if importer == PROJECT or importer in START:
            return
        if importer not in self.apps:
            yield "shared code imports no app."
        elif target == PROJECT:
            yield f"{PROJECT} wires the apps; no app imports it."
        elif importer in LIBRARIES:
            yield f"{importer} knows no other app."
        elif target in LIBRARIES:
            if not self._is_public(imported, target):
                yield f"an app takes the public names only: from {target} import ..."
        elif imported.target != f"{target}.queries":
            yield f"import only {target}.queries of another app, or subscribe to its events."

    def _reasons_inside(self, imported: Import) -> Iterator[str]:
        if imported.importer.startswith("outbox.") and "." in imported.target:
            room, other = (name.split(".")[1] for name in (imported.importer, imported.target))
            if room in ENGINE and other in LOOKERS:
                yield f"relay and worker run without {other}; let {other} import them."
            elif other in ENGINE.get(room, ()):
                yield f"the room {room} runs without {other}; let others join them."
            elif other in IMPORTED_BY and room not in {other, *IMPORTED_BY[other]}:
                yield f"only {', '.join(sorted(IMPORTED_BY[other]))} import {other}."
        if self._owner(imported.importer) in self.apps - {PROJECT, *LIBRARIES}:
            ours = self._layer(imported.importer)
            for module in self._reached(imported.target):
                theirs = self._layer(module)
                if ours is not None and theirs is not None and theirs < ours:
                    yield f"{module} is in a layer above; imports go downwards only."

    def _reached(self, module: str) -> set[str]:
        """Return the module, or what it imports of its own app if it belongs to no layer."""
        reached, waiting = set(), {module}
        while waiting:
            now = waiting.pop()
            reached.add(now)
            if self._layer(now) is None and not self._program(now):
                waiting |= {
                    imported.target
                    for imported in self._imports_by_module[now]
                    if self._owner(imported.target) == self._owner(module)
                } - reached
        return reached

    def _layer(self, module: str) -> int | None:
        inside = module.removeprefix(f"{self._owner(module)}.").split(".")[0]
        return next((rank for rank, names in enumerate(LAYERS) if inside in names), None)

    def _owner(self, module: str) -> str:
        """Return the app that a module belongs to, else its first name."""
        owners = (app for app in self.apps if f"{module}.".startswith(f"{app}."))
        return max(owners, key=len, default=module.split(".")[0])

    def _program(self, module: str) -> str:
        """Return the package with a `__main__` inside an app that a module lies in, if any."""
        parts = module.split(".")
        packages = (".".join(parts[:length]) for length in range(2, len(parts) + 1))
        return next((name for name in packages if f"{name}.__main__" in self.source.modules), "")

    def _foreign_program(self, importer: str, target: str) -> str:
        """Return the program that this import would cross the edge of, in or out."""
        if self._program(importer) == self._program(target):
            return ""
        leaves_for_an_app = self._program(importer) and self._owner(target) in self.apps
        return self._program(target) or (leaves_for_an_app and self._program(importer)) or ""

    @cached_property
    def _imports_by_module(self) -> dict[str, list[Import]]:
        grouped: dict[str, list[Import]] = defaultdict(list)
        for imported in self.source.imports:
            grouped[imported.importer].append(imported)
        return grouped

    def _is_public(self, imported: Import, library: str) -> bool:
        """Return whether the library offers this name. `OFFERED_TO` limits a name to some apps."""
        inside = imported.importer.removeprefix(f"{self._owner(imported.importer)}.")
        room = OFFERED_TO.get(inside.split(".")[0])
        if imported.target.removeprefix(f"{library}.") in OFFERED_WHOLE:
            return True
        rooms = (*OFFERED_TO_ALL, *([room] if room else ()))
        offering = {library, *(f"{library}.{one}" for one in rooms)}
        return imported.target in offering and imported.name in self._offered(imported.target)

    def _offered(self, module: str) -> set[str]:
        """Return the names in a module's `__all__`."""
        if module not in self.source.modules:
            return set()
        for node in ast.parse(self.source.modules[module].read_text()).body:
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
                return set(ast.literal_eval(node.value))
        return set()

    def _circle(self, kind: str, edges: dict[tuple[str, str], Import]) -> list[str]:
        """Return a line on the first circle in these edges (importer, target), if there is one."""
        graph: dict[str, set[str]] = defaultdict(set)
        for importer, target in edges:
            graph[importer].add(target)
        try:
            TopologicalSorter(graph).prepare()
        except CycleError as error:
            circle = error.args[1]  # each is imported by the next one
            problem = f"{kind} import each other in a circle: {' <- '.join(circle)}."
            links = (edges[importer, target] for target, importer in pairwise(circle))
            return [f"{min(links, key=str)}: {problem}"]
        return []

    def _between_modules(self) -> dict[tuple[str, str], Import]:
        return {(imported.importer, imported.target): imported for imported in self.source.imports}

    def _between_apps(self) -> dict[tuple[str, str], Import]:
        """Return the exceptions: the project imports all, other breaches are reported."""
        return {
            (self._owner(imported.importer), self._owner(imported.target)): imported
            for imported in self.source.imports
            if self._owner(imported.target) == imported.target.removesuffix(".queries")
            and self._owner(imported.importer) in self.apps - {PROJECT, *LIBRARIES}
            and self._owner(imported.importer) != self._owner(imported.target)
        }
