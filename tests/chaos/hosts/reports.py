"""What the other hosts report about processes that are cut off."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import partial

from tests.chaos.hosts.world import WEB, HostsWorld

#: Three missed heartbeats, in seconds.
SILENT_AFTER = 6.0
_FAMILY = "outbox_worker_last_seen_seconds"
_SILENT = (
    "import json\n"
    "from outbox.monitor.health import health_of_parts\n"
    "queues = [one for one in health_of_parts() if one.part == 'queue' and one.queue != 'outbox']\n"
    "print(json.dumps([one.queue for one in queues if not one.is_on]))"
)


def wait_for(world: HostsWorld, isolated: Sequence[str], *, well: bool) -> None:
    """Wait until each report says that the queues of these hosts are served, or are not."""
    state = f"{', '.join(isolated)} {'work' if well else 'are silent'}"
    for name, report in REPORTS.items():
        world.wait_until(partial(_is, report, world, well), f"{name}: {state}")


def _is(report: Callable[[HostsWorld], bool], world: HostsWorld, well: bool) -> bool:
    return report(world) == well


def by_metrics(world: HostsWorld) -> bool:
    """Return whether `/metrics` of a web host shows recent heartbeats of all queues of workers."""
    samples = world.metrics(WEB[0]).items()
    ages = [age for name, age in samples if name.startswith(_FAMILY) and '"outbox"' not in name]
    return max(ages) <= SILENT_AFTER


def by_health(world: HostsWorld) -> bool:
    """Return whether the health page's rows show the queues of workers as served."""
    done = world.stack.run_anyway("manage.py", "shell", "-v0", "-c", _SILENT)
    return not json.loads(done.stdout)


def by_doctor(world: HostsWorld) -> bool:
    """Return whether `outbox doctor`, outside of these hosts, finds each queue consumed."""
    done = world.stack.run_anyway("manage.py", "outbox", "doctor", "--json")
    found = json.loads(done.stdout)
    return all(one["severity"] == "ok" for one in found if one["part"].startswith("queue "))


REPORTS = {"metrics": by_metrics, "health": by_health, "doctor": by_doctor}
