"""`make cluster`: the shop on nine hosts of this machine, one order, and faults on demand.

Needs root and iproute2. With --once it ends after the order. Otherwise it reads commands:

    order HOST             place an order at web-1 or web-2, and wait until it is ready to ship
    cut HOST               let no packet pass
    cut-to HOST OTHER      let no packet from HOST to OTHER pass
    lose HOST PERCENT      lose packets
    slow HOST KILOBITS     limit what HOST receives a second
    mend HOST              end all faults of its link
    kill HOST              cut it and kill all its processes
    promote                make PostgreSQL's standby the primary
    hosts                  list the hosts
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence

from tests.cluster.network import NoNetwork
from tests.cluster.shop import HOSTS, WEB, ClusterShop, cluster_shop, hosts_of


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.cluster", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("--once", action="store_true", help="end after the first order")
    options = parser.parse_args(arguments)
    try:
        with cluster_shop() as shop:
            _list(shop)
            _order(shop, WEB[0])
            if not options.once:
                _obey(shop)
    except NoNetwork as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print()
    return 0


def _obey(shop: ClusterShop) -> None:
    """Carry out commands until the end of the input."""
    print(f"Commands: {', '.join(_COMMANDS)}. Ctrl-D ends.", flush=True)
    for line in sys.stdin:
        name, *words = line.split() or [""]
        try:
            if name:
                _COMMANDS[name](shop, *words)
        except (KeyError, TypeError, ValueError, AssertionError) as error:
            print(f"{line.strip()}: {error}. Hosts: {', '.join(HOSTS)}.", flush=True)


def _order(shop: ClusterShop, host: str) -> None:
    began = time.monotonic()
    order = shop.place(at=host)
    shop.wait_until_ready(order, at=host)
    print(f"{order}: ready to ship {time.monotonic() - began:.1f} s after its placement at {host}.",
          flush=True)  # fmt: skip


def _list(shop: ClusterShop) -> None:
    for row in hosts_of(shop):
        print(f"{row['name']:<10} {row['address']:<14} {row['processes']} processes", flush=True)


_COMMANDS: dict[str, Callable[..., object]] = {
    "order": _order,
    "cut": lambda shop, host: shop.network[host].cut(),
    "cut-to": lambda shop, host, other: shop.network[host].cut_to(shop.network[other]),
    "lose": lambda shop, host, percent: shop.network[host].lose(float(percent)),
    "slow": lambda shop, host, kilobits: shop.network[host].slow_down(int(kilobits)),
    "mend": lambda shop, host: shop.network[host].mend(),
    "kill": lambda shop, host: shop.network[host].kill(),
    "promote": lambda shop: shop.databases.standby.promote(),
    "hosts": _list,
}


if __name__ == "__main__":
    sys.exit(main())
