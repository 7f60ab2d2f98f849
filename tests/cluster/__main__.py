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

With --patroni, Patroni decides which of db-1 and db-2 is the primary, by a lease in etcd on three
more hosts. Instead of `promote` there are:

    switchover             let primary and standby change places
    leader                 name the primary
    start HOST             connect a killed host of Patroni or etcd, and start it again
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence

from tests.cluster.network import NoNetwork
from tests.cluster.patroni import PatroniCluster
from tests.cluster.patroni_programs import NoPatroni
from tests.cluster.shop import WEB, ClusterShop, cluster_shop, hosts_of


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.cluster", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("--once", action="store_true", help="end after the first order")
    parser.add_argument("--patroni", action="store_true", help="let Patroni fail over (needs etcd)")
    options = parser.parse_args(arguments)
    try:
        with cluster_shop(patroni=options.patroni) as shop:
            _list(shop)
            _order(shop, WEB[0])
            if not options.once:
                _obey(shop)
    except (NoNetwork, NoPatroni) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print()
    return 0


def _obey(shop: ClusterShop) -> None:
    """Carry out commands until the end of the input."""
    commands = _COMMANDS | (_OF_PATRONI if isinstance(shop.databases, PatroniCluster) else _OF_PAIR)
    print(f"Commands: {', '.join(commands)}. Ctrl-D ends.", flush=True)
    for line in sys.stdin:
        name, *words = line.split() or [""]
        try:
            if name:
                commands[name](shop, *words)
        except (KeyError, TypeError, ValueError, AssertionError) as error:
            print(f"{line.strip()}: {error}. Hosts: {', '.join(shop.network.names)}.", flush=True)


def _order(shop: ClusterShop, host: str) -> None:
    began = time.monotonic()
    order = shop.place(at=host)
    shop.wait_until_ready(order, at=host)
    print(f"{order}: ready to ship {time.monotonic() - began:.1f} s after its placement at {host}.",
          flush=True)  # fmt: skip


def _list(shop: ClusterShop) -> None:
    for row in hosts_of(shop):
        print(f"{row['name']:<10} {row['address']:<14} {row['processes']} processes", flush=True)


def _switch_over(shop: ClusterShop) -> None:
    done = _patroni(shop).try_to_switch_over()
    print("Switched over." if done else "Patroni refused the switchover: try again.", flush=True)


def _name_leader(shop: ClusterShop) -> None:
    leader = _patroni(shop).leader()
    print(leader.host.name if leader else "No member is the leader.", flush=True)


def _patroni(shop: ClusterShop) -> PatroniCluster:
    assert isinstance(shop.databases, PatroniCluster)
    return shop.databases


_COMMANDS: dict[str, Callable[..., object]] = {
    "order": _order,
    "cut": lambda shop, host: shop.network[host].cut(),
    "cut-to": lambda shop, host, other: shop.network[host].cut_to(shop.network[other]),
    "lose": lambda shop, host, percent: shop.network[host].lose(float(percent)),
    "slow": lambda shop, host, kilobits: shop.network[host].slow_down(int(kilobits)),
    "mend": lambda shop, host: shop.network[host].mend(),
    "kill": lambda shop, host: shop.network[host].kill(),
    "hosts": _list,
}
_OF_PAIR: dict[str, Callable[..., object]] = {
    "promote": lambda shop: shop.databases.standby.promote(),
}
_OF_PATRONI: dict[str, Callable[..., object]] = {
    "switchover": _switch_over,
    "leader": _name_leader,
    "start": lambda shop, host: shop.databases.restart(shop.network[host]),
}


if __name__ == "__main__":
    sys.exit(main())
